"""Keys by the fixed beginnings that providers gave them, so that scanners can find them: of clouds, of models, of where
code is kept and sold.

What follows a beginning is held to the letters that the provider uses: names of tools and models have dashes where most
keys have none. What it refuses: to find a key that is nothing but random. That is `detectors.py`'s, by its looks.
"""

from __future__ import annotations

import re
from typing import Final

_ANY_CASE: Final = (
    r"(?:AKIA|ASIA|AGPA|AIDA|AROA|ANPA)[A-Z0-9]{12}"
    r"|gh[pousr]_[A-Za-z0-9]{16}|github_pat_[A-Za-z0-9_]{16}|glpat-[A-Za-z0-9_-]{16}"
    r"|gl(?:dt|ft|ptt|rt|cbt|oas|imt|soat|ffct|agent)-[A-Za-z0-9_-]{20}"
    r"|(?:sk|pk|rk)[-_](?:[A-Za-z0-9]{16}|[A-Za-z0-9]{2,12}[-_](?:v[0-9][-_])?[A-Za-z0-9]{12})"
    r"|(?:sk|pk|rk)[-_](?:proj|ant|svcacct|admin|or|lf|live|test|prod)[-_][A-Za-z0-9_-]{12}"
    r"|AIza[A-Za-z0-9_-]{24}|ya29\.[A-Za-z0-9_-]{16}|GOCSPX-[A-Za-z0-9_-]{16}"
    r"|xox[a-z]-[A-Za-z0-9-]{10}|xapp-[A-Za-z0-9-]{10}|nvapi-[A-Za-z0-9_-]{20}|figd_[A-Za-z0-9_-]{20}"
    r"|(?:hf|gsk|r8|npm|xai|pplx|csk|fw|fc|e2b|rpa|ntn|glsa|glc|nfp|napi|phc|phx|pul|rdme|sq[aup]|jina)[-_]"
    r"[A-Za-z0-9]{20}"
    r"|(?:api_org|apify_api|lin_api|lsv2_[a-z]{2}|tgp_v1|wandb_v1|pylf_v[0-9]_[a-z]{2}|sb_secret|sbp|mdb_sa_sk|pcsk"
    r"|pscale_[a-z]{2,5}|rubygems|dckr_[op]at|shp(?:at|ca|pa|ss)|do[opr]_v1|fo1|fm[12][ar]?|sntry[su]|whsec)_"
    r"[A-Za-z0-9_-]{16}"
    r"|tvly-(?:dev-|prod-)?[A-Za-z0-9]{16}|bce-v3/ALTAK-[A-Za-z0-9]{16}|bedrock-api-key-YmVk|HRKU-AA[A-Za-z0-9_-]{16}"
    r"|NRAK-[A-Z0-9]{20}|PMAK-[a-f0-9]{20}|tskey-[a-z]{3,6}-[A-Za-z0-9]{10}|sha256~[A-Za-z0-9_-]{20}"
    r"|hv[bsr]\.[A-Za-z0-9_-]{20}|dp\.[a-z]{2,5}\.[A-Za-z0-9]{20}|dt0c01\.[A-Z0-9]{20}|sq0[a-z]{3}-[A-Za-z0-9_-]{20}"
    r"|pypi-[A-Za-z0-9_-]{16}|SG\.[A-Za-z0-9_-]{16}|AGE-SECRET-KEY-1"
    r"|key-[a-f0-9]{32}|[a-f0-9]{32}-us[0-9]"
)
# Too much like words to be told from them in another case. The last is DER in base64, as in a PEM block.
_OWN_CASE: Final = (
    r"(?:ABIA|ACCA|A3T[A-Z0-9])[A-Z0-9]{16}|ABSK[A-Za-z0-9+/]{24}|LTAI[A-Za-z0-9]{12}|AKID[A-Za-z0-9]{20}"
    r"|AKCp[A-Za-z0-9]{20}|AQ\.Ab[A-Za-z0-9_-]{16}|A(?:TATT|TCTT)3x[A-Za-z0-9_-]{16}|ATBB[A-Za-z0-9]{20}"
    r"|SK[a-f0-9]{32}|re_[A-Za-z0-9]{8}_[A-Za-z0-9]{16}|MII[B-J][A-Za-z0-9+/]{21}"
)
#: A key; letters are of any case but where an expression says otherwise.
KEY_FORMS: Final = rf"{_ANY_CASE}|(?-i:{_OWN_CASE})"
#: In its own case it is no part of a word, whatever stands before it.
KEY_INSIDE: Final = r"AKIA[A-Z0-9]{16}"
_KEY: Final = re.compile(rf"(?<![A-Za-z0-9])(?:{KEY_FORMS})|(?-i:{KEY_INSIDE})", re.IGNORECASE)
#: How one may begin behind what is neither letter nor digit, in small letters: told without trying every alternative.
KEY_STARTS: Final = (
    r"a(?:kia|sia|gpa|ida|roa|npa|iza|ge-|bia|cca|3t|bsk|kid|kcp|q\.|tatt|tctt|tbb|pi_org|pify_)|bce-|bedrock-"
    r"|csk[-_]|d(?:ckr_|o[opr]_|p\.|t0c)|e2b[-_]|f(?:w[-_]|c[-_]|igd_|o1_|m[12])"
    r"|g(?:h[pousr]_|ithub_|l[a-z]{1,5}[-_]|ocspx-|sk[-_])|h(?:f[-_]|rku-|v[bsr]\.)|jina[-_]|key-|l(?:in_|sv2_|tai)"
    r"|m(?:db_|ii)|n(?:pm[-_]|vapi-|tn[-_]|fp[-_]|api[-_]|rak-)|[prs]k[-_]|p(?:plx[-_]|h[cx][-_]|ul[-_]|ylf_|csk_|scale_"
    r"|mak-|ypi-)|r(?:8[-_]|pa[-_]|dme[-_]|ubygems_|e_)|s(?:q[aup0]|b_|bp_|hp|ntry|ha256~|g\.|k[0-9a-f])|t(?:gp_|vly-"
    r"|skey-)|w(?:andb_|hsec_)|x(?:ai[-_]|ox|app)|ya29|[0-9a-f]{32}-us"
)
_KEY_START: Final = re.compile(rf"(?<![a-z0-9])(?:{KEY_STARTS})|akia")


def has_key(text: str) -> bool:
    """Whether there is a key in a text."""
    return _KEY.search(text) is not None


def has_key_in_small(text: str, small: str) -> bool:
    """The same of an ASCII text, which is given in small letters, too."""
    start = _KEY_START.search(small)
    # Nothing in front of the first place where one may begin can be the beginning of one.
    return start is not None and _KEY.search(text, start.start()) is not None

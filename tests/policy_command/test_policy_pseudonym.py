"""`tenantscope policy pseudonym`, `rotate` and `retire`: who was who, for those who hold the keys."""

from __future__ import annotations

from pathlib import Path

from policy_shell import policy

from sidecar.policy.keyring import read_keys
from sidecar.redaction import Policy, Pseudonyms, Redactor


def test_a_known_tenant_is_called_as_the_sidecar_calls_him(tmp_path: Path) -> None:
    """Under the key in use and the older ones; whatever the id looks like."""
    (key,) = read_keys(tmp_path, "KEY")
    for tenant in ("acme", "Müller & Söhne", "bob@example.com"):
        ran = policy("pseudonym", tenant, "--state-dir", tmp_path)
        name = Pseudonyms(key).of(tenant.encode(), tenant.encode())
        assert (ran.status, ran.out, ran.err) == (0, f"{name}  in use\n", "")
    # The mask of an id that is none bears the same letters.
    assert name[5:17] in Redactor(Policy.default(), Pseudonyms(key)).tenant("bob@example.com")


def test_after_a_rotation_both_names_are_told(tmp_path: Path) -> None:
    """Until the older key is retired."""
    before = policy("pseudonym", "acme", "--state-dir", tmp_path).out.split()[0]
    assert policy("rotate", "--state-dir", tmp_path).out.startswith("k2 is in use")
    new, old = policy("pseudonym", "acme", "--state-dir", tmp_path).out.splitlines()
    assert (new.split()[1:], old) == (["in", "use"], f"{before}  older key")
    assert new.startswith("p-k2-")
    assert policy("retire", "k1", "--state-dir", tmp_path).status == 0
    assert policy("pseudonym", "acme", "--state-dir", tmp_path).out == f"{new}\n"


def test_a_value_has_a_pseudonym_with_each_tenant_and_one_hash(tmp_path: Path) -> None:
    """To find a person whom somebody asks about."""
    said = [policy("pseudonym", tenant, "--value", "bob", "--state-dir", tmp_path).out.split() for tenant in ("a", "b")]
    assert said[0][0] != said[1][0]
    assert said[0][1] == said[1][1]
    assert said[0][1].startswith("h-k1-")


def test_without_keys_nobody_is_told(tmp_path: Path) -> None:
    """No folder, a file that others can read, a key that is not there: one line, status 2, nothing made."""
    missing = tmp_path / "missing"
    ran = policy("pseudonym", "acme", "--state-dir", missing)
    assert (ran.status, ran.out, ran.err.count("\n"), missing.exists()) == (2, "", 1, False)
    read_keys(tmp_path, "KEY")
    assert policy("retire", "k1", "--state-dir", tmp_path).status == 2
    (tmp_path / "tenants.keys").chmod(0o644)
    ran = policy("pseudonym", "acme", "--state-dir", tmp_path)
    assert (ran.status, ran.out) == (2, "")
    assert "chmod 600" in ran.err

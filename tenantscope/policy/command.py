"""The sub-commands of `tenantscope policy`, and what they print.

Exit status: 0 all is well, 1 the answer is no (the policy has mistakes, an example fails, a policy became more
permissive), 2 it was called wrongly or a file that it needs cannot be used.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from sidecar.alerts import printable
from sidecar.configuration.settings import ConfigurationError, Settings
from sidecar.conventions import POLICIES
from sidecar.policy.keyring import read_keys, retire, rotate
from sidecar.redaction import Policy, PolicyError, Pseudonyms
from sidecar.redaction.json_schema import text as schema_text
from sidecar.redaction.policy import shipped_file
from tenantscope.arguments import Parser

from . import difference, examples, explanation
from .probe import Probe

NO: Final = 1
USAGE_ERROR: Final = 2
_MAX_LINE: Final = 2000
_STATE: Final = "TENANTSCOPE_STATE_DIR"

_DESCRIPTION: Final = """\
Check, explain, test and compare redaction policies, with the engine that the sidecar runs.

A POLICY is a file or the name of a shipped one: {names}.
Where none is given, it is TENANTSCOPE_POLICY, or `default`.
"""
_EXAMPLES: Final = """\
  tenantscope policy check policy.yaml             every mistake, with its line
  tenantscope policy explain gen_ai.tool.name      what happens to an attribute, and which line says so
  tenantscope policy explain Span.Event.exception.message
  tenantscope policy explain tenant.id --where span --value bob@example.com
  tenantscope policy explain gen_ai.tool.name --tenant acme      with the rules of the tenant's tier
  tenantscope policy test examples.yaml --policy policy.yaml
  tenantscope policy test strict --policy strict   the examples that are shipped with it
  tenantscope policy diff default policy.yaml      for CI: status 1 when anything became more permissive
  tenantscope policy pseudonym acme                what a known tenant is called; for those who hold the keys
  tenantscope policy rotate                        a new key from now on; the older ones still tell who was who
  tenantscope policy retire k1                     what it named cannot be told any more
  tenantscope policy show > policy.yaml            a policy of one's own starts from the default one
  tenantscope policy show strict --examples        how to write a file of examples
  tenantscope policy show --schema                 for an editor that completes and checks
"""


def main(arguments: Sequence[str]) -> int:
    """Run one sub-command; its exit status."""
    parser = _parser()
    options = parser.parse_args(list(arguments))
    try:
        status: int = options.run(options)
    except (PolicyError, ConfigurationError) as error:
        for mistake in error.mistakes if isinstance(error, PolicyError) else error.lines:
            print(f"tenantscope policy: {printable(mistake, _MAX_LINE)}", file=sys.stderr)
        return USAGE_ERROR
    except ValueError as error:
        print(f"tenantscope policy: {printable(str(error), _MAX_LINE)}", file=sys.stderr)
        return USAGE_ERROR
    return status


def _say(line: str) -> None:
    print(printable(line, _MAX_LINE))


def _check(options: argparse.Namespace) -> int:
    try:
        policy = Policy.load(options.policy)
    except PolicyError as error:
        for mistake in error.mistakes:
            _say(mistake)
        return NO
    counts = (
        f"{len(policy.attributes)} attributes, {len(policy.events)} of events, {len(policy.resource)} of resources "
        f"and {len(policy.fields)} fields allowed"
    )
    _say(f"{options.policy}: valid, digest {policy.digest}; {counts}")
    return 0


def _explain(options: argparse.Namespace) -> int:
    policy = _policy_of(options)
    found = explanation.explain(policy, options.key, options.signal, options.where)
    for line in list(explanation.lines(options.key, found, Probe(policy), options.value)):
        _say(line)
    return 0


def _policy_of(options: argparse.Namespace) -> Policy:
    policy = Policy.load(options.policy)
    return policy if options.tenant is None else policy.of_tenant(options.tenant)


def _test(options: argparse.Namespace) -> int:
    policy, found = Policy.load(options.policy), examples.load(options.file)
    failed = list(examples.failures(policy, found))
    for (line, target, signal, _, expect, _), outcome in failed:
        _say(f"{options.file}:{line}: {target} of {signal}: expected {expect}, was {outcome}")
    verdict = f"{len(failed)} of {len(found)} examples fail" if failed else f"{len(found)} examples, all as expected"
    _say(f"{verdict}; policy {options.policy}, digest {policy.digest}")
    return NO if failed else 0


def _diff(options: argparse.Namespace) -> int:
    old, new = Policy.load(options.old), Policy.load(options.new)
    found = difference.changes(old, new)
    for place, more, what in found:
        source = new if place in new.lines else old
        where = f"{source.source}:{source.lines.get(place, 0)}"
        _say(f"{'+' if more else '-'} {'.'.join(place)}: {what}  ({where})")
    wider = sum(change.more for change in found)
    _say(f"{wider} more permissive, {len(found) - wider} less; digest {old.digest} -> {new.digest}")
    return NO if wider else 0


def _pseudonym(options: argparse.Namespace) -> int:
    tenant = options.tenant.encode(errors="surrogateescape")
    value = tenant if options.value is None else options.value.encode(errors="surrogateescape")
    keys = read_keys(_state_dir(options), _STATE)
    for key in keys:
        names = Pseudonyms(key)
        hashed = "" if options.value is None else f"  {names.hash(value)}"
        _say(f"{names.of(tenant, value)}{hashed}  {'in use' if key is keys[0] else 'older key'}")
    return 0


def _rotate(options: argparse.Namespace) -> int:
    keys = rotate(_state_dir(options), _STATE)
    older = ", ".join(key.id for key in keys[1:])
    _say(f"{keys[0].id} is in use; a running sidecar takes it within seconds. Older, until they are retired: {older}")
    return 0


def _retire(options: argparse.Namespace) -> int:
    keys = retire(_state_dir(options), _STATE, options.key)
    _say(f"{options.key} is forgotten; {keys[0].id} is in use")
    return 0


def _state_dir(options: argparse.Namespace) -> Path:
    folder: Path = options.state_dir or Settings.from_environment().state_dir
    if not folder.is_dir():
        raise ValueError(f"{_STATE}: there is no folder {str(folder)!r}; the sidecar makes it when it starts")
    return folder


def _show(options: argparse.Namespace) -> int:
    if options.schema:
        text = schema_text()
    elif options.examples:
        text = examples.shipped_examples(options.name).decode()
    else:
        text = shipped_file(f"{options.name}.yaml").decode()
    sys.stdout.write(text)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="tenantscope policy",
        description=_DESCRIPTION.format(names=", ".join(POLICIES)),
        epilog=_examples(),
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def command(name: str, run: Callable[[argparse.Namespace], int], does: str) -> argparse.ArgumentParser:
        about = f"{does[0].upper()}{does[1:]}."
        added = commands.add_parser(name, help=does, description=about, epilog=_examples(name))
        added.set_defaults(run=run)
        return added

    in_force = os.environ.get("TENANTSCOPE_POLICY") or POLICIES[0]

    check = command("check", _check, "find every mistake in a policy")
    check.add_argument(
        "policy", nargs="?", default=in_force, metavar="POLICY", help=f"a file or a name; default: {in_force}"
    )

    explain = command("explain", _explain, "say what happens to a key, and why")
    explain.add_argument("key", metavar="KEY", help="of an attribute, or a field such as Span.name or LogRecord.body")
    explain.add_argument("--value", metavar="V", help="try this value; a list with commas, bytes in hexadecimal")
    explain.add_argument("--signal", choices=explanation.CHOICES["signal"], help="only in this signal")
    explain.add_argument("--where", choices=explanation.CHOICES["where"], help="only at this place")
    explain.add_argument("--tenant", metavar="ID", help="with the rules of this tenant's tier")
    explain.add_argument("--policy", default=in_force, metavar="POLICY", help=f"default: {in_force}")

    test = command("test", _test, "run a file of examples")
    test.add_argument(
        "file", metavar="FILE", help="examples, or the name of a shipped policy for those shipped with it"
    )
    test.add_argument("--policy", default=in_force, metavar="POLICY", help=f"default: {in_force}")

    diff = command("diff", _diff, "say what became more or less permissive")
    diff.add_argument("old", metavar="OLD", help="a POLICY")
    diff.add_argument("new", metavar="NEW", help="another")

    pseudonym = command("pseudonym", _pseudonym, "say what a known tenant is called")
    pseudonym.add_argument("tenant", metavar="TENANT", help="its id, as the application binds it")
    pseudonym.add_argument("--value", metavar="V", help="a value of this tenant instead: its pseudonym, and its hash")
    rotation = command("rotate", _rotate, "make pseudonyms with a new key")
    retirement = command("retire", _retire, "forget an older key")
    retirement.add_argument("key", metavar="KEY", help="such as k1")
    for with_keys in (pseudonym, rotation, retirement):
        with_keys.add_argument("--state-dir", type=Path, metavar="DIR", help=f"of the sidecar; default: {_STATE}")

    show = command("show", _show, "print a shipped policy")
    show.add_argument("name", nargs="?", default=POLICIES[0], choices=POLICIES, help=f"default: {POLICIES[0]}")
    what = show.add_mutually_exclusive_group()
    what.add_argument("--examples", action="store_true", help="the examples that are shipped with it instead")
    what.add_argument("--schema", action="store_true", help="the JSON Schema of policies for editors instead")
    return parser


def _examples(command: str = "") -> str:
    """Of one sub-command, or of all."""
    lines = _EXAMPLES.splitlines(keepends=True)
    return "examples:\n" + "".join(line for line in lines if line.startswith(f"  tenantscope policy {command}"))

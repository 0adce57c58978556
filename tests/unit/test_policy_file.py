"""policy.toml: what a file of one's own changes, and how each wrong key and value is refused."""

from pathlib import Path

import pytest
from judging import policy_of

from flowlog_udfs.errors import UsageError
from flowlog_udfs.policy.controls import CONTROLS
from flowlog_udfs.policy.loading import load_policy
from flowlog_udfs.policy.model import SEVERITIES

APPROVAL = 'owner = "o"\napprover = "a"\nbusiness_need = "n"\nticket = "T-1"\nexpires = 2027-01-31\n'
SEGMENT = '[[segment]]\nname = "a"\ncidrs = ["10.0.0.0/24"]\n'


def test_the_built_in_policy_is_the_file_in_conf() -> None:
    assert load_policy(None) == load_policy(Path(__file__).parents[2] / "conf" / "policy.toml")
    assert load_policy(None).name == "built-in"


def test_every_rule_names_known_controls_and_a_severity() -> None:
    for rule in load_policy(None).rules:
        assert rule.severity in SEVERITIES
        assert rule.controls and set(rule.controls) <= set(CONTROLS), rule.id
    assert {control for rule in load_policy(None).rules for control in rule.controls} == set(CONTROLS)


def test_a_file_of_ones_own_changes_what_it_names_and_nothing_else(tmp_path: Path) -> None:
    policy = policy_of(tmp_path, '[rules.admin-from-internet]\nseverity = "critical"\n[rules.port-scan]\nenabled = false\n')
    default = load_policy(None)
    assert policy.name == "policy.toml"
    assert [rule for rule in policy.rules if rule != default.by_id[rule.id]] == [
        policy.by_id["admin-from-internet"],
        policy.by_id["port-scan"],
    ]
    assert policy.by_id["admin-from-internet"].what == default.by_id["admin-from-internet"].what
    assert "port-scan" not in [rule.id for rule in policy.enabled]


def test_a_rule_of_ones_own(tmp_path: Path) -> None:
    text = '[rules.telnet-out]\nkind = "connections"\ntitle = "Telnet"\nseverity = "low"\nfrom = "own"\nports = ["tcp/23", "udp"]\n'
    rule = policy_of(tmp_path, text).by_id["telnet-out"]
    assert rule.what.ports.ranges == ((6, 23, 23), (17, 0, 65_535))


def test_comments_and_layout_do_not_change_the_digest(tmp_path: Path) -> None:
    one = policy_of(tmp_path, SEGMENT)
    other = policy_of(tmp_path, "# mine\n\n" + SEGMENT.replace(" = ", "="))
    assert one.digest() == other.digest() != policy_of(tmp_path, SEGMENT.replace("/24", "/25")).digest()


@pytest.mark.parametrize(
    "text, message",
    [
        ("[policies]\n", "unknown key 'policies'; known are allow, exception, expected, policy, rules, segment"),
        ("[policy]\nshare = 1\n", "[policy] unknown key 'share'; known are assessed_share, least_confidence, name"),
        ("[policy]\nassessed_share = 95\n", "[policy] assessed_share = 95: must be a share between 0 and 1"),
        ("[policy]\nname = 3\n", "[policy] name = 3: must be text"),
        ('[expected]\nvpc = ["vpc-1"]\n', "[expected] unknown key 'vpc'; known are accounts, interfaces, regions, vpcs"),
        ('[expected]\nvpcs = "vpc-1"\n', "[expected] vpcs = 'vpc-1': must be a list of texts"),
        ('[segment]\nname = "a"\n', "segment = {'name': 'a'}: must be sections; write [[segment]]"),
        ('[[segment]]\nname = "a"\n', "[[segment]] 1 'a': holds nothing; give cidrs, subnets, vpcs or tags"),
        ('[[segment]]\ncidrs = ["10.0.0.0/8"]\n', "[[segment]] 1 name: is missing; give it"),
        ('[[segment]]\nname = "a"\ncidrs = ["10.0.0.0/33"]\n', "[[segment]] 1 cidrs = '10.0.0.0/33': "),
        ('[[segment]]\nname = "internet"\ncidrs = ["10.0.0.0/8"]\n', "[[segment]] name = 'internet': is taken"),
        (SEGMENT + SEGMENT, "[[segment]] name = 'a': is taken; give each segment a name of its own"),
        (SEGMENT + "sensitive = 1\n", "[[segment]] 1 sensitive = 1: must be true or false"),
        (SEGMENT + "colour = 1\n", "[[segment]] 1 unknown key 'colour'; known are cidrs, name, sensitive, subnets, tags, vpcs"),
        (SEGMENT + "tags = 3\n", "[[segment]] 1 tags] = 3: must be a section"),
        (SEGMENT + '[[allow]]\nfrom = "a"\nto = "b"\n' + APPROVAL, "[[allow]] 1 to = 'b': must be one of a, internet, own, any"),
        (SEGMENT + '[[allow]]\nfrom = "a"\nto = "own"\nports = ["22"]\n' + APPROVAL, "[[allow]] 1 ports = '22': is no port; write tcp/22"),
        (SEGMENT + '[[allow]]\nfrom = "a"\nto = "own"\nports = ["tcp/9-1"]\n' + APPROVAL, "[[allow]] 1 ports = 'tcp/9-1': is no port"),
        (SEGMENT + '[[allow]]\nfrom = "a"\nto = "own"\nports = ["tcp/70000"]\n' + APPROVAL, "[[allow]] 1 ports = 'tcp/70000': is no port"),
        (SEGMENT + '[[allow]]\nfrom = "a"\nto = "own"\n', "[[allow]] 1 owner: is missing; give it"),
        (
            SEGMENT + '[[allow]]\nfrom = "a"\nto = "own"\n' + APPROVAL.replace("2027-01-31", '"2027"'),
            "[[allow]] 1 expires = '2027': must be a day",
        ),
        ('[[exception]]\nrule = "none"\n' + APPROVAL, "[[exception]] 1 rule = 'none': must be one of admin-from-internet, "),
        ('[[exception]]\nrule = "port-scan"\ninitiator = "x"\n' + APPROVAL, "[[exception]] 1 initiator = 'x': "),
        ('[[exception]]\nrule = "port-scan"\nuntil = 3\n' + APPROVAL, "[[exception]] 1 unknown key 'until'; known are "),
        ("[rules.port-scan]\nleast = 0\n", "[rules.port-scan] least = 0: must be a whole number from 1 on"),
        ("[rules.port-scan]\nports = []\n", "[rules.port-scan] unknown key 'ports'; known are "),
        ('[rules.port-scan]\nkind = "gaps"\n', "[rules.port-scan] kind = 'gaps': the built-in rule is of kind 'spread'"),
        (
            '[rules.port-scan]\nseverity = "grave"\n',
            "[rules.port-scan] severity = 'grave': must be one of critical, high, medium, low, info",
        ),
        ('[rules.mine]\ntitle = "x"\n', "[rules.mine] kind = None: must be one of connections, spread, volume, first-seen, gaps"),
        ('[rules.mine]\nkind = "spread"\ntitle = "x"\nseverity = "low"\n', "[rules.mine] over: is missing; give it"),
        ('[rules.cleartext]\nstates = ["open"]\n', "[rules.cleartext] states = 'open': must be one of established, "),
        ('[rules.cleartext]\nfrom = "a"\n', "[rules.cleartext] from = 'a': must be one of internet, own, any"),
        ("[rules.large-transfer]\nfactor = 0.5\n", "[rules.large-transfer] factor = 0.5: must be a number from 1 on"),
        (
            '[rules.block-public-access]\nreject_reason = "bpa"\n',
            "[rules.block-public-access] reject_reason = 'bpa': must be one of BPA, EC",
        ),
        ("[rules.large-transfer]\ndays = 15\n", "[rules.large-transfer] days = 15: only 14 days before are held; write 14 or less"),
        ("[rules.first-seen-peer]\ndays = 30\n", "[rules.first-seen-peer] days = 30: only 14 days before are held; write 14 or less"),
        ("[rules.large-transfer]\ndays = 2\n", "[rules.large-transfer] least_days = 3: is more than days = 2; write 2 or less"),
        (
            "[rules.first-seen-peer]\ndays = 5\nleast_days = 6\n",
            "[rules.first-seen-peer] least_days = 6: is more than days = 5; write 5 or less",
        ),
        (
            '[[exception]]\nrule = "port-scan"\nstarts = 2027-02-01\n' + APPROVAL,
            "[[exception]] 1 starts = 2027-02-01: is after expires = 2027-01-31; write 2027-01-31 or a day before it",
        ),
        (
            SEGMENT + '[[allow]]\nfrom = "a"\nto = "own"\nstarts = 2027-02-01\n' + APPROVAL,
            "[[allow]] 1 starts = 2027-02-01: is after expires = 2027-01-31",
        ),
        (
            '[[exception]]\nrule = "skipdata"\nports = ["tcp/22"]\n' + APPROVAL,
            "[[exception]] 1 ports = ['tcp/22']: rule skipdata is of kind gaps and looks at no connection; leave it out, or give vpc",
        ),
        (
            '[[exception]]\nrule = "large-transfer"\ninitiator = "10.0.0.0/8"\n' + APPROVAL,
            "[[exception]] 1 initiator = '10.0.0.0/8': rule large-transfer is of kind volume",
        ),
        (
            '[[exception]]\nrule = "expected-missing"\nresponder = "10.0.0.0/8"\n' + APPROVAL,
            "[[exception]] 1 responder = '10.0.0.0/8': rule expected-missing is of kind gaps",
        ),
        ("[rules]\nmine = 3\n", "[rules.mine] = 3: must be a section"),
        ("rules = 3\n", "[rules] = 3: must be a section"),
        ("[policy\n", "not valid TOML: "),
    ],
)
def test_what_is_wrong_is_named_with_file_key_value_and_remedy(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UsageError) as raised:
        policy_of(tmp_path, text)
    assert str(raised.value).startswith(f"{tmp_path}/policy.toml: ")
    assert message in str(raised.value)


def test_the_bounds_themselves_are_taken(tmp_path: Path) -> None:
    text = "[rules.large-transfer]\ndays = 14\nleast_days = 14\n"
    text += '[[exception]]\nrule = "skipdata"\nvpc = "vpc-1"\nstarts = 2027-01-31\n' + APPROVAL
    text += '[[exception]]\nrule = "first-seen-peer"\nresponder = "10.0.0.0/8"\nports = ["tcp/22"]\n' + APPROVAL
    assert len(policy_of(tmp_path, text).waivers) == 2


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"none\.toml: No such file"):
        load_policy(tmp_path / "none.toml")

"""Types, limits and keys of the model, every error at once."""

from __future__ import annotations

import pytest

from sidecar.config import document, load, walker
from sidecar.config.model import Bind, Configuration, Limits, Model, Pause, Text
from sidecar.config.problems import Problems
from tests.config.conftest import VALID, Messages


def parse(text: str) -> Configuration:
    return load.parse(text, "config.yaml")


def with_credential(line: str) -> str:
    return VALID.replace("    client_id: orders-worker\n", f"    client_id: orders-worker\n    {line}\n")


def test_a_small_file_loads_with_every_default_in_place() -> None:
    configuration = parse(VALID)

    assert configuration.listeners[0].mode == "forward"
    assert configuration.listeners[0].bind == Bind(host="127.0.0.1", port=6180)
    assert configuration.telemetry.bind == Bind(host="127.0.0.1", port=6181)
    assert configuration.credentials["orders"].default_ttl == 300.0
    assert configuration.routes[0].paths == ("/",)
    assert configuration.limits == Limits()


def test_json_is_taken_too() -> None:
    text = '{"listeners": [{"name": "egress", "bind": "127.0.0.1:6180"}], "limits": {"connect": "2s", "fields": 64}}'

    assert parse(text).limits == Limits(connect=2.0, fields=64)


def test_values_are_read_by_the_type_of_their_key() -> None:
    configuration = parse(
        VALID
        + "limits: {head: 32KiB, head_timeout: 1.5s, connections: 10, dns_ttl: 0s, replay_body: 0B}\n"
        + "log: {level: debug, access: true}\n"
    )

    assert configuration.limits.head == 32768
    assert configuration.limits.head_timeout == 1.5
    assert configuration.limits.connections == 10
    assert configuration.limits.dns_ttl == 0.0
    assert configuration.log.level == "debug"
    assert configuration.log.access is True


def test_a_bare_integer_where_text_is_wanted_keeps_its_digits() -> None:
    assert parse(VALID.replace("orders-worker", "0012")).credentials["orders"].client_id == "0012"


def test_form_fields_may_repeat_and_keep_their_digits() -> None:
    credential = parse(with_credential("token_params: {resource: [a, b], version: 007, empty: ''}")).credentials[
        "orders"
    ]

    assert credential.token_params == {"resource": ("a", "b"), "version": "007", "empty": ""}


def test_null_is_the_default_of_a_key_that_has_none() -> None:
    configuration = parse(with_credential("audience: null"))

    assert configuration.credentials["orders"].audience is None


def test_hosts_become_canonical() -> None:
    configuration = parse(VALID.replace("host: api.example.com", "host: API.Example.COM"))

    assert configuration.routes[0].host == "api.example.com"


def test_a_unix_socket_may_have_its_permissions() -> None:
    text = VALID.replace("bind: 127.0.0.1:6180", 'bind: {unix: /run/a.sock, mode: "0660", group: app}')

    assert parse(text).listeners[0].bind == Bind(path="/run/a.sock", mode=0o660, group="app")


def test_a_secret_stays_a_reference() -> None:
    reference = parse(VALID).credentials["orders"].client_secret

    assert str(reference) == "file:/run/secrets/orders"


def test_an_inline_secret_is_taken_only_where_it_is_allowed() -> None:
    text = VALID.replace("file:/run/secrets/orders", "hunter2")
    reference = parse("allow_inline_secrets: true\n" + text).credentials["orders"].client_secret

    assert reference is not None
    assert reference.read().reveal() == "hunter2"
    with pytest.raises(load.ConfigurationErrors, match="a secret is named, not written here"):
        parse(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- a\n", "1: the configuration: a mapping is wanted here, not a list"),
        ("word\n", "1: the configuration: a mapping is wanted here, not text"),
        ("log: x\nlisteners: []\n", "1: 'log': a mapping is wanted here, not text"),
        ("routes: {a: b}\nlisteners: []\n", "1: 'routes': a list is wanted here, not a mapping"),
    ],
)
def test_the_wrong_kind_of_node_is_named(text: str, message: str, messages: Messages) -> None:
    assert message in messages(text)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("limits: {fields: many}", "'fields': a whole number is wanted here"),
        ("limits: {fields: '12'}", "'fields': a whole number is wanted here, without quotes"),
        ("limits: {fields: 1.5}", "'fields': a whole number is wanted here"),
        ("limits: {fields: 012}", "'fields': a number has no zeros before it: some readers take it for octal"),
        ("limits: {fields: 0x10}", "'fields': a whole number is wanted here"),
        ("limits: {fields: 0}", "'fields': a number from 1 to 1000000 is wanted here"),
        ("limits: {fields: -1}", "'fields': a number from 1 to 1000000 is wanted here"),
        (f"limits: {{fields: {'9' * 5000}}}", "'fields': a number from 1 to 1000000 is wanted here"),
        ("limits: {fields: [1]}", "'fields': a number is wanted here, not a list"),
        ("limits: {head: 64KB}", "'head': sizes are counted in powers of two: write KiB"),
        ("limits: {head: 1B}", "'head': it must be at least 1KiB"),
        ("limits: {head: 1GiB}", "'head': it must be at most 1MiB"),
        ("limits: {connect: 5}", "'connect': a duration needs its unit: write 30s, not 30"),
        ("limits: {connect: 0s}", "'connect': it must be more than 0s"),
        ("limits: {connect: 400d}", "'connect': it must be at most 366d"),
        ("limits: {connect: 12:30:00}", "'connect': not a duration such as 500ms, 30s, 5m, 1h or 7d"),
        ("limits: {connect: {a: b}}", "'connect': a duration such as 30s is wanted here, not a mapping"),
        ("limits: {connect: }", "'connect' has no value: give it one, or take the key out"),
        ("limits: {connect: null}", "'connect' has no value: give it one, or take the key out"),
        ("limits:", "'limits' has no value: give it one, or take the key out"),
        ("log: {access: yes}", "'access': true or false is wanted here, in these words"),
        ("log: {access: True}", "'access': true or false is wanted here, in these words"),
        ("log: {access: 'true'}", "'access': true or false is wanted here without quotes, in these words"),
        ("log: {level: inf}", "'level': debug, info, warning or error is wanted here, not 'inf'; did you mean 'info'?"),
        ("log: {level: [info]}", "'level': debug, info, warning or error is wanted here, not a list"),
        ("unmatched: no", "'unmatched': deny or forward is wanted here, not 'no'"),
        ("unmatched: P4ss!word", "'unmatched': deny or forward is wanted here"),
        ("loging: {}", "unknown key 'loging'; did you mean 'log'?"),
        ("P4ss!word: {}", "unknown key"),
        (
            "telemetry: {bind: 6181}",
            "'bind': not an address to listen on: write 127.0.0.1:6180, [::1]:6180 or unix:/path",
        ),
        ("telemetry: {bind: {mode: '0660'}}", "'telemetry.bind' needs the key 'unix'"),
        ("telemetry: {bind: {unix: /a, mode: '99'}}", "'mode': permissions are written in octal: \"0660\""),
        ("telemetry: {bind: {unix: /a, mod: '0660'}}", "unknown key 'mod'; did you mean 'mode'?"),
        ("telemetry: {bind: {unix: [a]}}", "'unix': text is wanted here, not a list"),
    ],
)
def test_a_wrong_value_is_told_what_is_wanted(line: str, message: str, messages: Messages) -> None:
    assert messages(f"{line}\n{VALID}") == [f"1: {message}"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("scopes: orders.read", "'scopes': a list is wanted here: write it as scopes: [...]"),
        ("scopes: [a b]", "'scopes': one scope has no spaces: write each as an element of the list"),
        ("scopes: [a, b, a]", "'scopes': the same stands in this list before"),
        ("audience: no", "'audience': YAML may read this as something else than text: put it in quotes"),
        ("audience: 2018-02-01", "'audience': YAML may read this as something else than text: put it in quotes"),
        ("audience: 1.0", "'audience': YAML may read this as something else than text: put it in quotes"),
        ("audience: true", "'audience': YAML may read this as something else than text: put it in quotes"),
        ("audience: ''", "'audience': it is empty"),
        ('audience: "a\\nb"', "'audience': it holds a line break or another control character"),
        ("audience: [a]", "'audience': text is wanted here, not a list"),
        ("token_params: [a]", "'token_params': a mapping is wanted here, not a list"),
        ("token_params: {a: {b: c}}", "'a': text or a list is wanted here, not a mapping"),
        ("token_params: {version: 1.0}", "'version': YAML may read this as something else than text: put it in quotes"),
        ("token_params: {'': x}", "a key of 'credentials.orders.token_params': it is empty"),
        ("refresh: {at: 75%}", "'at': a number is wanted here"),
        ("refresh: {at: 75}", "'at': a number from 0 to 1 is wanted here"),
        ("stale_for: 2h", "'stale_for': it must be at most 1h"),
        ("private_key: {a: b}", "'private_key': a reference to a secret is wanted here, not a mapping"),
    ],
)
def test_a_wrong_value_of_a_credential_is_told_what_is_wanted(line: str, message: str, messages: Messages) -> None:
    assert f"9: {message}" in messages(with_credential(line))


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("hunter2", "a secret is named, not written here: use file:PATH, env:NAME or cred:NAME"),
        ("vault:orders", "a secret is named, not written here: use file:PATH, env:NAME or cred:NAME"),
        ("'file:'", "file: needs a name after the colon"),
        ("cred:../x", "cred: takes the plain name of a systemd credential"),
        ("[hunter2]", "a reference to a secret is wanted here, not a list"),
    ],
)
def test_what_is_no_reference_to_a_secret_is_refused_without_showing_it(
    reference: str, message: str, messages: Messages
) -> None:
    found = messages(VALID.replace("file:/run/secrets/orders", reference))

    assert found == [f"9: 'client_secret': {message}"]


def test_a_missing_key_points_at_what_lacks_it(messages: Messages) -> None:
    assert messages("listeners:\n  - name: egress\n") == ["2: 'listeners[0]' needs the key 'bind'"]
    assert messages("routes: []\n") == ["1: the configuration needs the key 'listeners'"]


def test_a_slip_in_a_needed_key_is_one_error_and_not_two(messages: Messages) -> None:
    assert messages(VALID.replace("bind:", "bnd:")) == ["3: unknown key 'bnd'; did you mean 'bind'?"]


def test_one_error_does_not_hide_another(messages: Messages) -> None:
    text = VALID.replace("name: egress", "name: 'a b'").replace("grant: client", "grant: clint")

    assert [message.partition(":")[0] for message in messages(text + "log: {level: x, access: x}\n")] == [
        "2",
        "6",
        "13",
        "13",
    ]


@pytest.mark.parametrize(
    ("grant", "section"), [("password", "RFC 9700 section 2.4"), ("implicit", "RFC 9700 section 2.1.2")]
)
def test_grants_that_must_not_be_used_are_refused_with_the_reason(grant: str, section: str, messages: Messages) -> None:
    found = messages(VALID.replace("client_credentials", grant))

    assert len(found) == 1
    assert f"the {grant} grant is not supported: {section}" in found[0]


def test_a_file_of_another_kind_is_refused_in_reasonable_time(messages: Messages) -> None:
    assert len(messages("".join(f"key_{number}: x\n" for number in range(20_000)))) == 20_001


class Errand(Model, frozen=True, kw_only=True):
    """Another kind of file."""

    after: Pause
    what: Text = "nothing"


def test_a_file_of_another_kind_is_read_as_strictly() -> None:
    def read(text: str) -> tuple[Errand | None, list[str]]:
        problems = Problems("errand.yaml")
        root = document.read(text, problems).root
        assert root is not None
        errand, _ = walker.walk_as(root, problems, Errand)
        return errand, [problem.message for problem in problems.found]

    assert read("after: 2s\n") == (Errand(after=2.0), [])
    errand, messages = read("after: 2\nwaht: x\n")
    assert errand is None
    assert messages == [
        "'after': a duration needs its unit: write 30s, not 30",
        "unknown key 'waht'; did you mean 'what'?",
    ]

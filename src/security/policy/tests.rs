//! Policies against an oracle that knows no automata, and their texts.

use proptest::prelude::*;
use regex::Regex;

use super::*;

const KINDS: &str =
    r#""Events":true,"EventsStore":true,"Queues":true,"Commands":true,"Queries":true"#;

fn policy(json: &str) -> Policy {
    Policy::parse(json, "test", false).unwrap()
}

fn attempt<'a>(client_id: &'a str, action: Action, channel: &'a str) -> Attempt<'a> {
    Attempt {
        resource: Resource::Messages(Kind::Events),
        action,
        client_id,
        channel,
    }
}

fn may_read(policy: &Policy, client: &str, channel: &str) -> bool {
    policy.allows(
        &Identity::anonymous(),
        &attempt(client, Action::Read, channel),
    )
}

/// A policy of one client, whose rules read these channels; those with `!` deny.
fn channels(patterns: &[&str]) -> Policy {
    let rules: Vec<_> = patterns
        .iter()
        .map(|pattern| {
            let bare = pattern.trim_start_matches('!');
            let deny = bare.len() < pattern.len();
            let channel = serde_json::to_string(bare).unwrap();
            format!(
                r#"{{"ClientID":"c","Channel":{channel},"Events":true,"Read":true,"Deny":{deny}}}"#
            )
        })
        .collect();
    policy(&format!("[{}]", rules.join(",")))
}

#[test]
fn each_kind_and_each_action_needs_its_own_word() {
    let resources = [
        ("Events", Resource::Messages(Kind::Events)),
        ("EventsStore", Resource::Messages(Kind::EventsStore)),
        ("Queues", Resource::Messages(Kind::Queues)),
        ("Commands", Resource::Messages(Kind::Commands)),
        ("Queries", Resource::Messages(Kind::Queries)),
        ("Management", Resource::Management),
    ];
    let actions = [("Read", Action::Read), ("Write", Action::Write)];
    for (field, allowed_resource) in resources {
        for (verb, allowed_action) in actions {
            let json =
                format!(r#"[{{"ClientID":"c","Channel":"a","{field}":true,"{verb}":true}}]"#);
            let policy = policy(&json);
            for (_, resource) in resources {
                for (_, action) in actions {
                    let attempt = Attempt {
                        resource,
                        action,
                        client_id: "c",
                        channel: "a",
                    };
                    let expected = resource == allowed_resource && action == allowed_action;
                    let found = policy.allows(&Identity::anonymous(), &attempt);
                    assert_eq!(found, expected, "{field} {verb} {attempt:?}");
                }
            }
        }
    }
}

/// What the reference gets wrong, and its documentation promises.
#[test]
fn expressions_match_whole_names_unless_the_old_way_is_asked_for() {
    let json = format!(r#"[{{"ClientID":"alice","Channel":"foo.bar",{KINDS},"Read":true}}]"#);
    let anchored = policy(&json);
    assert!(may_read(&anchored, "alice", "foo.bar"));
    assert!(!may_read(&anchored, "xalicex", "foo.bar"));
    assert!(!may_read(&anchored, "alice", "foo.bar.2"));
    assert!(anchored.warnings().is_empty());
    let old = Policy::parse(&json, "test", true).unwrap();
    assert!(may_read(&old, "xalicex", "foo.bar.2"));
    assert!(may_read(&old, "alice", "fooXbar"));
    assert!(!may_read(&old, "bob", "foo.bar"));
    assert!(old.warnings()[0].contains("authorization.unanchored"));
}

#[test]
fn commas_and_repeated_rules_do_no_harm() {
    let rule = format!(r#"{{"ClientID":"a{{1,3}}","Channel":"x,y",{KINDS},"Read":true}}"#);
    let policy = policy(&format!("[{rule},{rule}]"));
    assert_eq!(policy.len(), 2);
    assert!(may_read(&policy, "aa", "x,y"));
    assert!(!may_read(&policy, "aaaa", "x,y"));
}

#[test]
fn a_rule_that_denies_outweighs_those_that_allow_in_any_order() {
    for rules in [["a.*", "!ab"], ["!ab", "a.*"]] {
        let policy = channels(&rules);
        assert!(may_read(&policy, "c", "ax"));
        assert!(!may_read(&policy, "c", "ab"));
        assert!(!may_read(&policy, "d", "ax"));
    }
}

#[test]
fn a_role_allows_and_a_client_id_narrows_it() {
    let policy = policy(
        r#"[{"Roles":["admin","ops"],"Channel":"a","Events":true,"Read":true},
            {"Roles":["ops"],"ClientID":"o-.*","Channel":"b","Events":true,"Read":true}]"#,
    );
    let may = |role: &str, client, channel| {
        let identity = Identity {
            roles: ["other".into(), role.into()].into(),
            ..Identity::anonymous()
        };
        policy.allows(&identity, &attempt(client, Action::Read, channel))
    };
    assert!(may("admin", "x", "a"));
    assert!(may("ops", "x", "a"));
    assert!(!may("Admin", "x", "a"));
    assert!(!may("nobody", "x", "a"));
    assert!(may("ops", "o-1", "b"));
    assert!(!may("ops", "x", "b"));
    assert!(!may("admin", "o-1", "b"));
}

#[test]
fn management_needs_no_channel_and_no_rule_of_messages_grants_it() {
    let policy = policy(
        r#"[{"ClientID":"root","Management":true,"Read":true,"Write":true},
            {"ClientID":"c","Channel":".*","Queues":true,"Read":true,"Write":true}]"#,
    );
    let may = |client_id, channel| {
        let attempt = Attempt {
            resource: Resource::Management,
            ..attempt(client_id, Action::Write, channel)
        };
        policy.allows(&Identity::anonymous(), &attempt)
    };
    assert!(may("root", ""));
    assert!(may("root", "orders"));
    assert!(!may("c", "orders"));
    assert!(!may_read(&policy, "root", "orders"));
}

#[test]
fn a_wildcard_needs_rules_for_all_that_it_matches() {
    for (rules, pattern, expected) in [
        (&["a\\.b"][..], "a.*", false),
        (&["a\\..*"], "a.*", true),
        (&["a\\..*"], "a.>", true),
        (&["a\\..*"], ">", false),
        (&["a\\..*"], "*.b", false),
        (&[".*"], ">", true),
        (&[".+"], "*.*.x", true),
        (&["[^.]*"], "*", true),
        (&["[^.]*"], ">", false),
        // No channel has a blank in its name: nothing is missing.
        (&["[^ ]*"], ">", true),
        (&["[^b]*"], ">", false),
        // Together.
        (&["[^.]*", ".*\\..*"], ">", true),
        (&["a.*", "[^a].*"], ">", true),
        (&["a.*", "[^ab].*", "b"], ">", false),
        (&["a\\.[^x].*", "a\\.x", "a\\.x.+"], "a.*", true),
        (&["a\\.[^x].*", "a\\.x"], "a.*", false),
        // A rule that denies a part of it.
        (&[".*", "!a\\.secret"], "a.*", false),
        (&[".*", "!a\\.secret"], "*.secret", false),
        (&[".*", "!a\\.secret"], "b.*", true),
        (&[".*", "!a\\.secret"], "*", true),
        (&[".*", "!.* .*"], ">", true),
        // The text of a wildcard is not the name of a channel.
        (&[">"], ">", false),
        (&["a\\.\\*"], "a.*", false),
    ] {
        let found = may_read(&channels(rules), "c", pattern);
        assert_eq!(found, expected, "{rules:?} {pattern}");
    }
}

/// However many rules there are for single channels, the one for all of them is found.
#[test]
fn many_rules_do_not_hide_the_one_that_covers() {
    let names: Vec<String> = (0..4_000).map(|number| format!("a\\.c{number}")).collect();
    let mut rules: Vec<&str> = names.iter().map(String::as_str).collect();
    let many = channels(&rules);
    assert!(may_read(&many, "c", "a.c17"));
    assert!(!may_read(&many, "c", "a.*"));
    rules.push("a\\..*");
    let more = channels(&rules);
    assert!(may_read(&more, "c", "a.*"));
    assert!(may_read(&more, "c", "a.>"));
    assert!(!may_read(&more, "c", ">"));
}

#[test]
fn names_that_are_too_long_for_a_channel_need_no_rule() {
    let pattern = format!("{}.*", "a".repeat(250));
    for (rule, expected) in [("a{250}\\..{0,5}", true), ("a{250}\\..{0,4}", false)] {
        assert_eq!(
            may_read(&channels(&[rule]), "c", &pattern),
            expected,
            "{rule}"
        );
    }
}

#[test]
fn a_decision_says_which_rules_and_which_channel() {
    let policy = channels(&["a\\.b", "b\\..*", "!b\\.secret"]);
    let decide = |channel| policy.decide(&[], &attempt("c", Action::Read, channel));
    let rule = |number| RuleId {
        number,
        ..policy.rules[number - 1].id()
    };
    assert_eq!(decide("a.b"), Decision::Allowed(vec![rule(1)]));
    assert_eq!(decide("x"), Decision::NoRule);
    assert_eq!(decide("x.>"), Decision::NoRule);
    let example = "b.secret".to_owned();
    let denied = Decision::Denied {
        rule: rule(3),
        example,
    };
    assert_eq!(decide("b.secret"), denied);
    assert_eq!(decide("*.secret"), denied);
    let uncovered = Decision::Uncovered {
        rules: vec![rule(1)],
        example: "a.x".to_owned(),
    };
    assert_eq!(decide("a.*"), uncovered);
}

#[test]
fn what_cannot_be_found_out_in_time_is_not_allowed() {
    // The rules together count modulo several primes: their product is what has to be followed.
    let counting: Vec<String> = [5, 7, 11, 13, 17, 19, 23]
        .iter()
        .map(|prime| format!("(?:[^.]{{{prime}}})*[^.]{{1,{}}}", prime - 1))
        .collect();
    let counting: Vec<&str> = counting.iter().map(String::as_str).collect();
    let policy = channels(&counting);
    let decision = policy.decide(&[], &attempt("c", Action::Read, "*"));
    assert_eq!(decision, Decision::TooComplex);
    assert!(may_read(&policy, "c", "abc"));
}

#[test]
fn each_rule_that_is_searched_counts_even_if_it_leads_nowhere() {
    let few = channels(&["r\\..*"; 100]);
    let decide = |policy: &Policy| policy.decide(&[], &attempt("c", Action::Read, "a.*"));
    assert_eq!(decide(&few), Decision::NoRule);
    let many = channels(&["r\\..*"; 600]);
    assert_eq!(decide(&many), Decision::TooComplex);
    assert!(may_read(&many, "c", "r.a"));
}

#[test]
fn base64_is_a_policy_too() {
    use base64::Engine as _;
    let json = format!(r#"[{{"ClientID":"c","Channel":"a",{KINDS},"Read":true}}]"#);
    let encoded = base64::engine::general_purpose::STANDARD.encode(&json);
    let (one, other) = encoded.split_at(40);
    for text in [encoded.clone(), format!("{one}\n{other}\n")] {
        assert!(may_read(&policy(&text), "c", "a"), "{text}");
    }
    let error = |text: &str| Policy::parse(text, "o", false).unwrap_err().to_string();
    let encoded = base64::engine::general_purpose::STANDARD.encode("[\n 1]");
    let text = "o: line 2, column 2 (behind base64): expected `{`, a rule, found '1'";
    assert_eq!(error(&encoded), text);
    assert!(error("/////w==").contains("stands for is no text"));
}

fn assert_told(mistakes: &[(&str, &str)]) {
    for (text, expected) in mistakes {
        let found = Policy::parse(text, "p.json", false).unwrap_err();
        let found = found.to_string();
        assert!(found.contains(expected), "{text}: {found}");
    }
}

#[test]
fn mistakes_of_the_form_are_told_with_line_and_column() {
    assert_told(&[
        (
            "",
            "p.json: line 1, column 1: expected `[`, an array of rules, found the end",
        ),
        (
            "{}",
            "line 1, column 1: expected `[`, an array of rules, found '{'",
        ),
        ("[] x", "line 1, column 4: expected the end, found 'x'"),
        (
            "[{\"Read\":true]",
            "line 1, column 14: expected `,` or `}`, found ']'",
        ),
        (
            "[{\"Read\":\"yes\"}]",
            "line 1, column 10: expected true or false",
        ),
        (
            "[{\"Read\":1}]",
            "line 1, column 10: expected true, false or a text",
        ),
        (
            "[{\"Roles\":\"a\"}]",
            "line 1, column 11: expected an array of texts",
        ),
        (
            "[{\"Channel\":\"a\\.b\"}]",
            "in JSON a backslash is written \\\\",
        ),
    ]);
}

#[test]
fn mistakes_of_the_rules_are_told_with_line_and_column() {
    assert_told(&[
        (
            "[{}]",
            "line 1, column 2: the rule has neither ClientID nor Roles",
        ),
        (
            "[{\"ClientID\":\"a\"}]",
            "line 1, column 2: the rule has no Channel",
        ),
        (
            "[\n  {\"ClientID\": \"\",\n   \"Channel\": \"a\"}]",
            "line 2, column 16: ClientID is empty",
        ),
        (
            "[\n {\"ClientID\":\"ü\", \"Chanel\":\"a\"}]",
            "line 2, column 19: unknown field \"Chanel\", is it Channel?",
        ),
        (
            "[{\"Groups\":1}]",
            "line 1, column 3: unknown field \"Groups\"",
        ),
        (
            "[{\"read\":true,\"READ\":true}]",
            "line 1, column 15: the field \"READ\" is there twice",
        ),
        ("[{\"Roles\":[]}]", "line 1, column 11: Roles is empty"),
        (
            "[{\"ClientID\":\"a\",\n\"Channel\":\"a)(\"}]",
            "line 2, column 11: no regular expression: unopened group",
        ),
        (
            "[{\"ClientID\":\"a\",\"Channel\":\"b\",\"Deny\":true}]",
            "line 1, column 2: the rule denies nothing",
        ),
    ]);
}

#[test]
fn rules_without_effect_are_warned_of_and_an_empty_policy_is_too() {
    let policy = policy("[{\"ClientID\":\"a\",\"Channel\":\"b\",\"Events\":true,\"Read\":null}]");
    assert!(policy.warnings()[0].contains("rule 1 (line 1) allows nothing"));
    assert!(!may_read(&policy, "a", "b"));
    let empty = Policy::parse(" [ ] ", "test", false).unwrap();
    assert!(empty.is_empty() && empty.warnings()[0].contains("nobody may do anything"));
}

#[test]
fn a_policy_is_bounded_in_bytes_rules_and_automata() {
    let rule = r#"{"ClientID":"a","Channel":"b"}"#;
    let of = |count: usize| format!("[{}]", vec![rule; count].join(","));
    let problem = |text: &str| {
        Policy::parse(text, "test", false)
            .map(|_| ())
            .map_err(|e| e.problem)
    };
    assert_eq!(problem(&of(RULES_MAX)), Ok(()));
    assert_eq!(problem(&of(RULES_MAX + 1)), Err(Problem::TooManyRules));
    let long = " ".repeat(POLICY_BYTES_MAX + 1);
    assert_eq!(problem(&long), Err(Problem::TooLong(POLICY_BYTES_MAX + 1)));
    let large = r#"[{"ClientID":"a","Channel":"(a|b)*a(a|b){20}"}]"#;
    assert_eq!(problem(large), Err(Problem::TooLarge));
}

/// Names over a small alphabet; `x` stands for all characters that no rule names.
fn small_names() -> Vec<String> {
    let mut names = Vec::new();
    let mut last = vec![String::new()];
    for _length in 1..=6 {
        last = last
            .iter()
            .flat_map(|name| ['a', 'b', 'x', '.'].map(|c| format!("{name}{c}")))
            .collect();
        names.extend(last.iter().cloned());
    }
    names.retain(|name| !name.split('.').any(str::is_empty));
    names
}

/// Whether a subscription gets what is sent to a channel, token by token.
fn gets(pattern: &str, name: &str) -> bool {
    let mut wanted = pattern.split('.').peekable();
    let mut found = name.split('.');
    while let Some(token) = wanted.next() {
        let Some(given) = found.next() else {
            return false;
        };
        if token == ">" && wanted.peek().is_none() {
            return true;
        }
        if token != "*" && token != given {
            return false;
        }
    }
    found.next().is_none()
}

const EXPRESSIONS: [&str; 22] = [
    "a",
    "b",
    ".*",
    "a.*",
    ".*b",
    "a\\..*",
    "[^.]*",
    "[^.]+\\.[^.]+",
    ".*\\..*",
    "(a|b)*",
    "[^a].*",
    "[^ab]",
    ".",
    "..",
    "a\\.b",
    "a?b?",
    ".*a.*",
    "[^a]*",
    "(..)*",
    ".(..)*",
    "\\ba\\b.*",
    "[^x]+",
];
const PATTERNS: [&str; 14] = [
    "a", "a.b", "ab", "*", ">", "a.*", "*.b", "a.>", "*.*", "*.>", "*.a.*", "ab.*", "b.*.>", "x.x",
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Allowed is what no small name contradicts; what is not allowed has an example, and another
    /// library agrees with it.
    #[test]
    fn decisions_are_those_of_an_oracle(
        rules in prop::collection::vec((0..EXPRESSIONS.len(), prop::bool::weighted(0.2)), 0..5),
        pattern in 0..PATTERNS.len(),
    ) {
        let pattern = PATTERNS[pattern];
        let rule = |(index, deny): &(usize, bool)| (EXPRESSIONS[*index], *deny);
        let rules: Vec<_> = rules.iter().map(rule).collect();
        let texts: Vec<_> = rules
            .iter()
            .map(|(text, deny)| format!("{}{text}", if *deny { "!" } else { "" }))
            .collect();
        let policy = channels(&texts.iter().map(String::as_str).collect::<Vec<_>>());
        let compiled: Vec<_> = rules
            .iter()
            .map(|(text, deny)| (Regex::new(&format!("^(?:{text})$")).unwrap(), *deny))
            .collect();
        let denied = |name: &str| compiled.iter().any(|(rule, deny)| *deny && rule.is_match(name));
        let allowed = |name: &str| compiled.iter().any(|(rule, deny)| !deny && rule.is_match(name));
        let mut matched = small_names();
        matched.retain(|name| gets(pattern, name));
        prop_assert!(!matched.is_empty());
        match policy.decide(&[], &attempt("c", Action::Read, pattern)) {
            Decision::Allowed(_) => {
                for name in &matched {
                    let wrong = denied(name) || !allowed(name);
                    prop_assert!(!wrong, "{} {:?} {}", pattern, rules, name);
                }
            }
            Decision::Denied { example, .. } => {
                prop_assert!(gets(pattern, &example) && denied(&example), "{}", example);
            }
            Decision::Uncovered { example, .. } => {
                prop_assert!(gets(pattern, &example) && !allowed(&example), "{}", example);
                let shorter = matched.iter().find(|name| name.len() < example.len());
                prop_assert!(shorter.is_none_or(|name| allowed(name)), "{}", example);
            }
            Decision::NoRule => {
                for name in &matched {
                    prop_assert!(!allowed(name), "{} {:?} {}", pattern, rules, name);
                }
            }
            Decision::TooComplex => prop_assert!(false, "{} {:?}", pattern, rules),
        }
    }

    #[test]
    fn no_text_makes_the_reader_panic(text in "[\\[\\]{}\":,a-zA-Z\\\\ \\n*.(é]{0,60}") {
        let _either_is_fine = Policy::parse(&text, "test", false);
    }

    #[test]
    fn no_expression_and_no_name_make_a_decision_panic(
        expression in "[a-z.*+?()|\\[\\]\\\\^$\\{\\}0-9,é-]{1,16}",
        channel in "[a.*>é; ]{0,12}",
    ) {
        let expression = serde_json::to_string(&expression).unwrap();
        let json = format!(
            r#"[{{"ClientID":{expression},"Channel":{expression},"Events":true,"Read":true}}]"#
        );
        for unanchored in [false, true] {
            if let Ok(policy) = Policy::parse(&json, "test", unanchored) {
                let _either_is_fine = may_read(&policy, &channel, &channel);
            }
        }
    }
}

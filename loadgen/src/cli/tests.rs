use std::path::Path;

use clap::Parser;

use super::{Command, Line, Run, Usage, exit_code};
use crate::scenario::{Arrivals, Calls, Load, Pattern, Payload, Rate, Scenario, Step};

fn parse(flags: &[&str]) -> Result<Run, clap::Error> {
    let line = Line::try_parse_from([&["ringmq-loadgen", "run"], flags].concat())?;
    match line.command {
        Command::Run(run) => Ok(*run),
        other => panic!("not a run: {other:?}"),
    }
}

fn line(flags: &[&str]) -> Run {
    parse(flags).unwrap()
}

fn scenario(flags: &[&str]) -> Scenario {
    line(flags).scenario.scenario().unwrap()
}

fn refusal(flags: &[&str]) -> String {
    match parse(flags) {
        Ok(run) => format!("{:#}", run.scenario.scenario().unwrap_err()),
        Err(error) => error.to_string(),
    }
}

#[test]
fn clap_finds_the_arguments_sound() {
    use clap::CommandFactory;
    Line::command().debug_assert();
}

#[test]
fn no_flags_are_the_default() {
    assert_eq!(scenario(&[]), Scenario::default());
}

#[test]
fn each_flag_sets_its_field() {
    let flags = "--name x --pattern events-store --calls unary --channels 2 --channel-prefix p \
                 --producers 3 --consumers 4 --groups 2 --size 2KiB --connections 5 --window 6 \
                 --batch 7 --warm-up 500ms --duration 1m --drain 1 --seed 9 --rate 100 \
                 --arrivals poisson --items 11 --wait-ms 12 --auto-ack --timeout-ms 13 \
                 --answer-size 14";
    let set = scenario(&flags.split_whitespace().collect::<Vec<_>>());
    let mut wanted = Scenario {
        name: "x".into(),
        pattern: Pattern::EventsStore,
        calls: Calls::Unary,
        channels: 2,
        channel_prefix: "p".into(),
        producers: 3,
        consumers: 4,
        groups: 2,
        payload: Payload::Fixed(2048),
        connections: 5,
        window: 6,
        batch: 7,
        load: Load::Open {
            arrivals: Arrivals::Poisson,
            rate: Rate::Constant(100.0),
        },
        warm_up: 0.5,
        duration: 60.0,
        drain: 1.0,
        seed: 9,
        ..Scenario::default()
    };
    wanted.queue.items = 11;
    wanted.queue.wait_ms = 12;
    wanted.queue.auto_ack = true;
    wanted.request.timeout_ms = 13;
    wanted.request.answer_bytes = 14;
    assert_eq!(set, wanted);
}

#[test]
fn rates_are_given_in_one_way() {
    let load = |flags: &[&str]| scenario(flags).load;
    let open = |rate| Load::Open {
        arrivals: Arrivals::Constant,
        rate,
    };
    assert_eq!(load(&["--rate", "5e3"]), open(Rate::Constant(5000.0)));
    let ramp = Rate::Ramp { from: 1.0, to: 9.0 };
    assert_eq!(load(&["--ramp", "1:9"]), open(ramp));
    let steps = [(1.0, 10.0), (2.0, 20.0)].map(|(seconds, rate)| Step { seconds, rate });
    assert_eq!(
        load(&["--steps", "1:10,2:20"]),
        open(Rate::Steps(steps.to_vec()))
    );
    assert!(refusal(&["--rate", "1", "--ramp", "1:2"]).contains("cannot be used with"));
    assert!(refusal(&["--rate", "1", "--closed"]).contains("cannot be used with"));
    assert!(refusal(&["--rate", "0"]).contains("load: a rate of 0 is not above 0"));
    assert!(refusal(&["--arrivals", "poisson"]).contains("a closed loop has none"));
    assert!(refusal(&["--rate-file", "/nowhere.csv"]).contains("cannot read /nowhere.csv"));
    assert!(refusal(&["--size", "64", "--payload", "64"]).contains("cannot be used with"));
}

#[test]
fn flags_override_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.toml");
    let text = "producers = 7\nwindow = 8\n[load.open]\narrivals = \"poisson\"\n\
                rate = { constant = 10 }\n";
    std::fs::write(&path, text).unwrap();
    let file = ["--scenario", path.to_str().unwrap()];
    let with = |flags: &[&str]| scenario(&[&file, flags].concat());
    assert_eq!((with(&[]).producers, with(&[]).window), (7, 8));
    assert_eq!(with(&["--producers", "9"]).producers, 9);
    assert_eq!(with(&["--closed"]).load, Load::Closed);
    let faster = with(&["--rate", "20"]).load;
    let wanted = Load::Open {
        arrivals: Arrivals::Poisson,
        rate: Rate::Constant(20.0),
    };
    assert_eq!(faster, wanted, "the arrivals are still the file's");
}

#[test]
fn a_sweep_takes_arrivals_without_a_rate() {
    let arrivals = |flags: &[&str]| line(flags).scenario.without_rate().unwrap().1;
    assert_eq!(arrivals(&[]), Arrivals::Poisson);
    assert_eq!(arrivals(&["--arrivals", "constant"]), Arrivals::Constant);
    assert_eq!(arrivals(&["--rate", "5"]), Arrivals::Constant);
}

#[test]
fn wrong_values_are_told_all_at_once_and_end_with_2() {
    let text = refusal(&["--producers", "0", "--window", "0"]);
    assert!(text.contains("2 values are wrong"), "{text}");
    assert!(
        text.contains("producers: 0") && text.contains("window: 0"),
        "{text}"
    );
    let error = super::run(&line(&["--producers", "0"])).unwrap_err();
    assert!(error.is::<Usage>());
    assert_eq!(
        format!("{:?}", exit_code(&error)),
        format!("{:?}", std::process::ExitCode::from(2))
    );
}

#[test]
fn cores_are_counted_or_named() {
    let options = |flags: &[&str]| line(flags).generator.options();
    let default = options(&[]).unwrap();
    assert_eq!((default.cpus, default.checksum), (vec![None], true));
    assert!(default.spin.is_some());
    assert_eq!(options(&["--cores", "2"]).unwrap().cpus, [None, None]);
    assert_eq!(
        options(&["--cpus", "1,3"]).unwrap().cpus,
        [Some(1), Some(3)]
    );
    assert_eq!(options(&["--park"]).unwrap().spin, None);
    assert!(!options(&["--no-checksum"]).unwrap().checksum);
    let error = options(&["--cores", "0"]).unwrap_err().to_string();
    assert!(
        error.contains("cores: 0 is not between 1 and 256"),
        "{error}"
    );
}

#[test]
fn the_scenarios_that_come_with_the_tool_can_be_run() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
    let mut patterns = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|end| end != "toml") {
            continue;
        }
        let read = scenario(&["--scenario", path.to_str().unwrap()]);
        assert!(
            !read.name.is_empty(),
            "{}: a report needs a name",
            path.display()
        );
        patterns.push(read.pattern);
    }
    use clap::ValueEnum;
    for pattern in Pattern::value_variants() {
        assert!(patterns.contains(pattern), "no scenario for {pattern:?}");
    }
}

#[test]
fn the_scenario_of_the_user_guide_can_be_run() {
    let guide = include_str!("../../../docs/loadgen.md");
    let blocks = guide.split("```toml\n").skip(1);
    let blocks: Vec<_> = blocks.filter_map(|rest| rest.split("```").next()).collect();
    assert!(!blocks.is_empty());
    let folder = tempfile::tempdir().unwrap();
    for block in blocks {
        let path = folder.path().join("guide.toml");
        std::fs::write(&path, block).unwrap();
        scenario(&["--scenario", path.to_str().unwrap()]);
    }
}

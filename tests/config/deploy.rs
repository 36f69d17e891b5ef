//! The files of `docs/deploy`: they are what they say, and a broker would start with them.

use std::path::{Path, PathBuf};
use std::process::Command;

use yaml_rust2::{Yaml, YamlLoader};

use super::{ringmq, run};

fn deploy(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/deploy");
    folder.join(name)
}

fn text(name: &str) -> String {
    std::fs::read_to_string(deploy(name)).unwrap()
}

/// Asserts that a broker would start with a file of settings.
fn assert_accepted(file: &Path) {
    let directory = tempfile::tempdir().unwrap();
    let path = file.to_str().unwrap();
    let (code, _, errors) = run(&mut ringmq(directory.path(), &["config", "check", path]));
    assert_eq!((code, errors.as_str()), (Some(0), ""), "{path}");
}

#[test]
fn example_of_a_configuration_is_one_with_and_without_its_comments() {
    assert_accepted(&deploy("ringmq.toml"));
    // What is commented out must be right once it is not: settings are `name = value`.
    let is_setting = |line: &str| {
        line.strip_prefix("# ")
            .filter(|rest| rest.starts_with("[[") || rest.split(" = ").next() != Some(rest))
            .is_some()
    };
    let all = text("ringmq.toml");
    let lines = all.lines().map(|line| match line.strip_prefix("# ") {
        Some(setting) if is_setting(line) => setting,
        _ => line,
    });
    let all: String = lines
        // Processors that this machine may not have.
        .filter(|line| !line.starts_with("cpus") && !line.starts_with("cores"))
        .map(|line| format!("{line}\n"))
        .collect();
    assert!(all.contains("\nport = 50000\n"), "{all}");
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("all.toml");
    std::fs::write(&file, all).unwrap();
    assert_accepted(&file);
}

#[test]
fn pods_are_probed_where_the_broker_answers() {
    let documents = YamlLoader::load_from_str(&text("kubernetes.yaml")).unwrap();
    let kind = |kind: &str| -> Vec<&Yaml> {
        let of_kind = |document: &&Yaml| document["kind"].as_str() == Some(kind);
        documents.iter().filter(of_kind).collect()
    };
    assert_eq!(kind("Service").len(), 4);
    assert_eq!(kind("PodDisruptionBudget").len(), 1);
    let set = kind("StatefulSet")[0];
    let pod = &set["spec"]["template"]["spec"];
    assert_eq!(pod["enableServiceLinks"].as_bool(), Some(false));
    let container = &pod["containers"][0];
    let ports = container["ports"].as_vec().unwrap().iter();
    let ports: Vec<_> = ports.map(|port| port["containerPort"].as_i64()).collect();
    assert_eq!(ports, [Some(50_000), Some(9_090), Some(8_080)]);
    for (probe, path) in [
        ("startupProbe", "/ready"),
        ("readinessProbe", "/ready"),
        ("livenessProbe", "/health"),
    ] {
        let get = &container[probe]["httpGet"];
        let found = (get["path"].as_str(), get["port"].as_str());
        assert_eq!(found, (Some(path), Some("api")), "{probe}");
    }
    let selected = &set["spec"]["selector"]["matchLabels"];
    assert_eq!(selected, &set["spec"]["template"]["metadata"]["labels"]);
    for service in kind("Service") {
        assert_eq!(&service["spec"]["selector"], selected);
    }
    let settings = kind("ConfigMap")[0]["data"]["ringmq.yaml"]
        .as_str()
        .unwrap();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("ringmq.yaml");
    std::fs::write(&file, settings).unwrap();
    assert_accepted(&file);
}

/// systemd's own tool looks at the unit, where it is installed.
#[test]
fn unit_is_what_systemd_understands() {
    let unit = text("ringmq.service");
    for line in [
        "Type=exec",
        "ExecReload=/bin/kill -HUP $MAINPID",
        "LimitMEMLOCK=8M",
        "LimitNOFILE=65536",
        "RestartPreventExitStatus=64 78",
    ] {
        assert!(unit.lines().any(|found| found == line), "{line}");
    }
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("ringmq.service");
    let installed = unit.replace("/usr/local/bin/ringmq", env!("CARGO_BIN_EXE_ringmq"));
    std::fs::write(&file, installed).unwrap();
    let mut verify = Command::new("systemd-analyze");
    let Ok(output) = verify.args(["verify", "--man=no"]).arg(&file).output() else {
        return;
    };
    // It may complain of the machine; of the unit it may not.
    let complaints = String::from_utf8_lossy(&output.stderr).into_owned();
    let ours = complaints.lines().filter(|line| line.contains("ringmq"));
    assert_eq!(ours.collect::<Vec<_>>(), Vec::<&str>::new());
}

#[test]
fn image_runs_the_broker_as_nobody_in_particular() {
    let dockerfile = text("Dockerfile");
    for line in [
        "USER 1001:1001",
        "EXPOSE 50000 9090 8080",
        "ENTRYPOINT [\"ringmq\"]",
        "CMD [\"server\"]",
    ] {
        assert!(dockerfile.lines().any(|found| found == line), "{line}");
    }
    for (number, line) in dockerfile.lines().enumerate() {
        let instruction = line.split(' ').next().unwrap();
        let known = [
            "",
            "#",
            "FROM",
            "WORKDIR",
            "RUN",
            "COPY",
            "USER",
            "VOLUME",
            "EXPOSE",
            "HEALTHCHECK",
            "ENTRYPOINT",
            "CMD",
        ];
        assert!(known.contains(&instruction), "{}: {line}", number + 1);
    }
}

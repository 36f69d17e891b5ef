//! SIGHUP: the settings are read again, and a bad file changes nothing.

use std::fs;
use std::path::Path;

use rustix::process::Signal;

use crate::harness::{Broker, poll};
use crate::mock::broker::Watched;
use crate::mock::peer::PATIENCE;

/// The origin that the REST service allows to the page of `https://a.example`.
fn allowed(broker: &Broker) -> Option<String> {
    let rest = broker.address("rest").expect("REST is served");
    let request = ureq::get(format!("http://{rest}/ping")).header("Origin", "https://a.example");
    let response = request.call().ok()?;
    let allowed = response.headers().get("access-control-allow-origin")?;
    allowed.to_str().ok().map(str::to_owned)
}

fn write(file: &Path, origin: &str, more: &str) {
    let text = format!("rest:\n  cors:\n    allowOrigins: [\"{origin}\"]\n{more}");
    // In one step: the broker must not read half of it.
    let partial = file.with_extension("partial");
    fs::write(&partial, text).unwrap();
    fs::rename(&partial, file).unwrap();
}

/// Waits until the broker has logged a line with all of these.
fn wait_logged(broker: &Broker, words: &[&str]) {
    let logged = poll(PATIENCE, || {
        let log = broker.log();
        let is_it = |line: &str| words.iter().all(|word| line.contains(word));
        log.lines().any(is_it).then_some(())
    });
    assert!(logged.is_some(), "no {words:?} in\n{}", broker.log());
}

#[test]
fn settings_are_read_again_on_sighup() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("broker.yaml");
    write(&file, "https://b.example", "");
    let broker = Broker::start_with(2, ["--config", file.to_str().unwrap()]);
    assert_eq!(allowed(&broker), None, "another page");

    write(
        &file,
        "https://a.example",
        "queue:\n  maxReceiveCount: many\n",
    );
    broker.signal(Signal::HUP);
    wait_logged(&broker, &["queue.max_receive_count", "broker.yaml:5"]);
    wait_logged(&broker, &["the configuration is not reloaded"]);
    assert_eq!(allowed(&broker), None, "nothing of a bad file counts");

    let more = "queue:\n  maxReceiveCount: 7\nengine:\n  spinUs: 50\n";
    write(&file, "https://a.example", more);
    broker.signal(Signal::HUP);
    let a = Some("https://a.example");
    let changed = poll(PATIENCE, || {
        (allowed(&broker).as_deref() == a).then_some(())
    });
    assert!(changed.is_some(), "{}", broker.log());
    wait_logged(
        &broker,
        &["setting changed", "queue.max_receive_count", "7"],
    );
    wait_logged(
        &broker,
        &["setting counts from the next start on", "engine.spin_us"],
    );
    wait_logged(
        &broker,
        &["configuration reloaded", "changed=2", "waiting=1"],
    );
    broker.end();
}

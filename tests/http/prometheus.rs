//! What `docs/deploy` offers, tried with Prometheus itself: it scrapes a real broker, answers every
//! query of the dashboard and every rule, and knows the lag of a consumer.

use std::collections::BTreeSet;
use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};
use yaml_rust2::YamlLoader;

use crate::broker::{HttpBroker, PATIENCE, base64};
use crate::harness::{poll, root, say};

/// A Prometheus that scrapes one broker; ends when dropped.
struct Prometheus {
    process: Child,
    address: SocketAddr,
    _files: tempfile::TempDir,
}

impl Prometheus {
    /// `None` when it is not installed.
    fn start(target: SocketAddr) -> Option<Self> {
        let found = Command::new("prometheus").arg("--version").output();
        if !found.is_ok_and(|output| output.status.success()) {
            return None;
        }
        let files = tempfile::tempdir().unwrap();
        let config = format!(
            "global: {{scrape_interval: 1s, evaluation_interval: 1s}}\n\
             rule_files: [{}]\n\
             scrape_configs:\n  - job_name: ringmq\n    static_configs:\n      \
             - targets: [\"{target}\"]\n",
            deploy("alerts.yml").display()
        );
        let path = files.path().join("prometheus.yml");
        fs::write(&path, config).unwrap();
        // It cannot be told to take a free port and say which; this one was free just now.
        let address = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap();
        let argument = |name: &str, value: &dyn std::fmt::Display| format!("--{name}={value}");
        let process = Command::new("prometheus")
            .arg(argument("config.file", &path.display()))
            .arg(argument(
                "storage.tsdb.path",
                &files.path().join("data").display(),
            ))
            .arg(argument("web.listen-address", &address))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Some(Self {
            process,
            address,
            _files: files,
        })
    }

    /// The result of a query; the query must be one.
    fn query(&self, broker: &HttpBroker, query: &str) -> Value {
        let encoded: String = query.bytes().map(|byte| format!("%{byte:02x}")).collect();
        let path = format!("/api/v1/query?query={encoded}");
        let answer = broker.send(self.address, "GET", &path, &[], b"").json();
        assert_eq!(answer["status"], "success", "{query}: {answer}");
        answer["data"]["result"].clone()
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _already_gone = self.process.kill();
        let _status = self.process.wait();
    }
}

fn deploy(file: &str) -> std::path::PathBuf {
    root().join("docs/deploy").join(file)
}

/// The queries of the dashboard, with its variables filled in.
fn dashboard_queries(file: &Path) -> Vec<String> {
    let dashboard: Value = serde_json::from_str(&fs::read_to_string(file).unwrap()).unwrap();
    let panels = dashboard["panels"].as_array().unwrap().iter();
    let targets = panels.flat_map(|panel| panel["targets"].as_array().into_iter().flatten());
    let queries = targets.map(|target| target["expr"].as_str().unwrap());
    queries
        .map(|query| {
            query
                .replace("$instance", ".+")
                .replace("$__rate_interval", "30s")
        })
        .collect()
}

/// The expressions of the alert rules.
fn rules(file: &Path) -> Vec<String> {
    let documents = YamlLoader::load_from_str(&fs::read_to_string(file).unwrap()).unwrap();
    let groups = documents[0]["groups"].as_vec().unwrap();
    let rules = groups
        .iter()
        .flat_map(|group| group["rules"].as_vec().unwrap());
    rules
        .map(|rule| rule["expr"].as_str().unwrap().to_owned())
        .collect()
}

/// The names of metrics in a query.
fn metrics_of(query: &str) -> BTreeSet<&str> {
    let words = query.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    words
        .filter(|word| word.starts_with("ringmq_") || word.starts_with("process_"))
        .collect()
}

#[test]
fn prometheus_answers_the_dashboard_the_rules_and_a_question_for_lag() {
    let broker = HttpBroker::start(2);
    let queries = dashboard_queries(&deploy("grafana-dashboard.json"));
    let rules = rules(&deploy("alerts.yml"));
    assert!(queries.len() > 40 && rules.len() > 15);
    // Every metric that is asked for is one that there is, here or when it is needed.
    let documented = fs::read_to_string(root().join("docs/metrics.md")).unwrap();
    for metric in queries
        .iter()
        .chain(&rules)
        .flat_map(|query| metrics_of(query))
    {
        let family = metric.trim_end_matches("_bucket");
        assert!(
            documented.contains(&format!("`{family}`")),
            "{metric} is not documented"
        );
    }
    let Some(prometheus) = Prometheus::start(broker.api()) else {
        say("prometheus is not installed: its queries were skipped");
        return broker.end();
    };
    // One who has a position and went away while more was stored.
    let stored = || {
        let event = json!({"ClientID": "s", "Channel": "led", "Body": base64("x"), "Store": true});
        broker.post("/send/event", &event).data();
    };
    stored();
    let path = "/subscribe/events?client_id=reader&channel=led&subscribe_type=events_store\
                &events_store_type_data=2";
    let mut socket = broker.socket(path);
    assert!(socket.read().unwrap().is_text());
    drop(socket);
    for _ in 0..5 {
        stored();
    }
    let lag = "ringmq_consumer_lag_messages{channel=\"led\",consumer=\"reader\"}";
    let found = poll(PATIENCE, || {
        // It takes a moment until it listens, and until it has scraped.
        std::net::TcpStream::connect(prometheus.address).ok()?;
        let ready = broker.send(prometheus.address, "GET", "/-/ready", &[], b"");
        if ready.status != 200 {
            return None;
        }
        let result = prometheus.query(&broker, lag);
        let behind: f64 = result[0]["value"][1].as_str()?.parse().unwrap();
        (behind >= 5.0).then_some(behind)
    });
    // The first one was delivered; whether its delivery was confirmed in time is another matter.
    assert!(
        found.is_some_and(|behind| behind <= 6.0),
        "{found:?}\n{}",
        broker.broker.log()
    );
    for query in queries.iter().chain(&rules) {
        prometheus.query(&broker, query);
    }
    let up = prometheus.query(&broker, "ringmq_ready");
    assert_eq!(up[0]["value"][1], "1", "{up}");
    drop(prometheus);
    broker.end();
}

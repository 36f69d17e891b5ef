//! What the configuration says of the routing table.

use super::base64;
use super::error::Problem;
use super::key::{Key, Setting};
use super::machine::Finding;
use super::settings::Routing;

/// A routing table as text; empty when there is none. Whether it is one is checked at the start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RoutingData(String);

impl RoutingData {
    /// The JSON; `None` when there is none.
    #[must_use]
    pub fn json(&self) -> Option<&str> {
        (!self.0.is_empty()).then_some(&*self.0)
    }
}

impl Setting for RoutingData {
    fn parse(text: &str, _key: &Key) -> Option<Self> {
        base64::json_array(text).map(Self)
    }
}

/// Nothing, where the reference has an address to fetch something from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NoUrl;

impl Setting for NoUrl {
    fn parse(text: &str, _key: &Key) -> Option<Self> {
        text.is_empty().then_some(Self)
    }

    fn expected(_text: &str, key: &Key) -> String {
        let allowed = key.expected();
        format!(
            "{allowed}, as this version fetches no routing table; \
             put it into routing.file_path or routing.data"
        )
    }
}

impl Routing {
    /// Whether any setting says where a table is.
    const fn has_table(&self) -> bool {
        !self.data.0.is_empty() || self.file_path.is_some()
    }

    pub(super) fn check(&self, problems: &mut Vec<Problem>) {
        if !self.data.0.is_empty() && self.file_path.is_some() {
            problems.push(Problem::Both {
                first: "routing.data",
                second: "routing.file_path",
            });
        }
    }

    pub(super) fn unused_table(&self) -> Option<Finding> {
        (self.has_table() && !self.enable).then(|| {
            Finding::warning(
                "there is a routing table, but routing.enable is false: it is not used".to_owned(),
                "set routing.enable = true, or remove the table".to_owned(),
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use crate::config::{Config, Sources};

    fn load(environment: &[(&str, &str)]) -> Result<Config, String> {
        let pair = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).into());
        let sources = Sources {
            environment: environment.iter().map(pair).collect::<HashMap<_, _>>(),
            ..Sources::default()
        };
        Config::load(&sources).map_err(|error| error.to_string())
    }

    #[test]
    fn a_table_may_stand_in_base64() {
        for text in ["[ {} ]", "WyB7fSBd", "WyB7\nfSBd"] {
            let config = load(&[("ROUTING_DATA", text)]).unwrap();
            assert_eq!(config.routing.data.json(), Some("[ {} ]"), "{text:?}");
        }
        assert_eq!(load(&[]).unwrap().routing.data.json(), None);
        for text in ["{}", "nonsense!", "bm90IGpzb24="] {
            let error = load(&[("ROUTING_DATA", text)]).unwrap_err();
            assert!(error.contains("routing.data"), "{error}");
        }
    }

    #[test]
    fn an_address_is_refused_with_what_to_do_instead() {
        let error = load(&[("ROUTING_URL", "http://a/b")]).unwrap_err();
        assert!(
            error.contains("routing.file_path or routing.data"),
            "{error}"
        );
    }

    #[test]
    fn a_table_has_one_source() {
        let both = [("ROUTING_DATA", "[]"), ("ROUTING_FILE_PATH", "/x")];
        let error = load(&both).unwrap_err();
        let text = "routing.data and routing.file_path are both set";
        assert!(error.contains(text), "{error}");
    }

    #[test]
    fn a_table_that_is_switched_off_is_told_of() {
        let file = ("ROUTING_FILE_PATH", "/x");
        let warnings = |environment: &[(&str, &str)]| {
            let config = load(environment).unwrap();
            let warnings = config.provenance.warnings.iter();
            warnings
                .filter(|found| found.what.contains("routing"))
                .count()
        };
        assert_eq!(warnings(&[file]), 1);
        assert_eq!(warnings(&[file, ("ROUTING_ENABLE", "true")]), 0);
        assert_eq!(warnings(&[("ROUTING_ENABLE", "true")]), 0);
    }
}

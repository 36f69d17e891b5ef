//! The rules of who may do what: read at the start, again when their sources change, and when the
//! settings do.
//!
//! Each source is read by itself: that a provider of keys is out of reach does not keep a key that
//! was taken back from being so. The rules that they become are swapped whole.

mod fetch;
mod forms;
mod source;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use super::{Failed, exit};
use crate::config::{
    Authentication, Authorization, CertificateField, ClientIdBinding, Config, KeySource,
    PolicySource, TokenSource,
};
use crate::rt::{self, Instant};
use crate::security::authentication::{
    Accepts, Algorithm, Authenticator, CertificateField as Field, Expectations, Parties, Refresh,
};
use crate::security::{Binding, Rules};

use fetch::{Fetcher, Place};
use forms::Form;
use source::{RulesError, Source, Taken, What};

/// Where the rules come from, and what was read there last. Blocks: lives on a thread of its own.
#[derive(Debug)]
pub(super) struct Sources {
    authentication: Authentication,
    sources: Vec<Source>,
    rules: Arc<Rules>,
    fetcher: Fetcher,
    refresh: Arc<Refresh>,
    keys_every: Option<Duration>,
    keys_due: Option<Instant>,
    policy_every: Option<Duration>,
    policy_due: Option<Instant>,
}

/// Reads the rules that the configuration names; without them it is no start. `ask` is called by
/// executors when a token names a key that is not known; it must not wait.
pub(super) fn load(
    config: &Config,
    ask: impl Fn() + Send + Sync + 'static,
) -> Result<(Arc<Rules>, Sources), Failed> {
    let mut sources = Sources::none(config, Refresh::new(ask));
    sources.read_again(config).map_err(|error| {
        Failed::new(exit::CONFIG, &error).with_remedy(
            "Nobody would be recognised or nothing allowed as it should be: mend what is named, \
             or set authentication.enable or authorization.enable to false.",
        )
    })?;
    Ok((sources.rules(), sources))
}

impl Sources {
    fn none(config: &Config, refresh: Refresh) -> Self {
        Self {
            authentication: config.authentication.clone(),
            sources: Vec::new(),
            rules: Arc::default(),
            fetcher: Fetcher::default(),
            refresh: Arc::new(refresh),
            keys_every: None,
            keys_due: None,
            policy_every: None,
            policy_due: None,
        }
    }

    /// Reads everything that a configuration names, and gives back the rules. What is at an address
    /// that cannot be reached now, and was read from there before, stays as it was.
    ///
    /// # Errors
    /// What is missing or bad; then nothing has changed.
    pub(super) fn read_again(&mut self, config: &Config) -> Result<Arc<Rules>, RulesError> {
        let mut sources = Vec::new();
        for what in wanted(&config.authentication, &config.authorization)? {
            sources.push(self.source(&what)?);
        }
        self.sources = sources;
        self.authentication = config.authentication.clone();
        let now = rt::now();
        let changing = |is_policy: bool| {
            let mut all = self.sources.iter();
            all.any(|source| source.what.is_policy() == is_policy && source.what.can_change())
        };
        let refresh = config.authentication.refresh;
        self.keys_every = Some(refresh).filter(|_| changing(false));
        self.policy_every = config.authorization.auto_reload.filter(|_| changing(true));
        self.keys_due = self.keys_every.map(|every| now.after(every));
        self.policy_due = self.policy_every.map(|every| now.after(every));
        self.put_together();
        Ok(self.rules())
    }

    fn source(&self, what: &What) -> Result<Source, RulesError> {
        let before = || self.sources.iter().find(|source| source.what == *what);
        match Source::read(what.clone(), &self.fetcher) {
            Err(RulesError::Fetch(error)) if what.is_far() => match before() {
                Some(before) => {
                    tracing::warn!(%error, "not read again; what was read before stays");
                    Ok(before.again())
                }
                None => Err(error.into()),
            },
            read => read,
        }
    }

    /// What was read.
    pub(super) fn rules(&self) -> Arc<Rules> {
        self.rules.clone()
    }

    /// When something is to be looked at again; `None` when nothing can change by itself.
    pub(super) fn due(&self) -> Option<Instant> {
        self.keys_due.into_iter().chain(self.policy_due).min()
    }

    /// A token has named a key that is not known: the keys are due.
    pub(super) fn keys_wanted(&mut self) {
        if self.keys_every.is_some() {
            self.keys_due = Some(rt::now());
        }
    }

    /// Looks at what is due, and gives back the rules if they have changed.
    pub(super) fn look(&mut self, now: Instant) -> Option<Arc<Rules>> {
        let is_due = |due: Option<Instant>| due.is_some_and(|due| due <= now);
        let (keys, policy) = (is_due(self.keys_due), is_due(self.policy_due));
        if !(keys || policy) {
            return None;
        }
        let mut changed = false;
        for source in &mut self.sources {
            let is_due = if source.what.is_policy() {
                policy
            } else {
                keys
            };
            if is_due && source.what.can_change() {
                changed |= source.poll(&self.fetcher);
            }
        }
        // From now, not from when it was due: what cannot be reached takes its time.
        let after = |every: Option<Duration>| every.map(|every| rt::now().after(every));
        if keys {
            self.keys_due = after(self.keys_every);
        }
        if policy {
            self.policy_due = after(self.policy_every);
        }
        changed.then(|| {
            self.put_together();
            self.rules()
        })
    }

    fn put_together(&mut self) {
        let config = &self.authentication;
        let mut accepts = Accepts {
            expectations: expectations(config),
            certificates: config.accept_certificates.then(|| field(config)),
            refresh: self.keys_every.map(|_| self.refresh.clone()),
            ..Accepts::default()
        };
        let mut authorization = None;
        for source in &self.sources {
            match &source.taken {
                Taken::Tokens(keys) => accepts.tokens.push(keys.clone()),
                Taken::ApiKeys(keys) => accepts.api_keys = Some(keys.clone()),
                Taken::Policy(policy) => authorization = Some(policy.clone()),
            }
        }
        let authenticator = || Arc::new(Authenticator::new(accepts));
        self.rules = Arc::new(Rules {
            authentication: config.enable.then(authenticator),
            authorization,
            binding: match config.client_id_binding {
                ClientIdBinding::Off => Binding::Off,
                ClientIdBinding::Checked => Binding::Checked,
                ClientIdBinding::Forced => Binding::Forced,
            },
        });
    }
}

fn expectations(config: &Authentication) -> Expectations {
    let seconds = |time: Duration| i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
    Expectations {
        leeway_s: seconds(config.leeway),
        expiry_needed: config.require_exp,
        grace_s: seconds(config.expiry_grace),
        roles_claim: config.roles_claim.clone(),
        client_id_claim: config.client_id_claim.clone(),
        client_id_needed: config.client_id_binding != ClientIdBinding::Off,
    }
}

const fn field(config: &Authentication) -> Field {
    match config.certificate_field {
        CertificateField::CommonName => Field::CommonName,
        CertificateField::Dns => Field::Dns,
        CertificateField::Uri => Field::Uri,
        CertificateField::Email => Field::Email,
        CertificateField::Subject => Field::Subject,
    }
}

/// Everything that is to be read.
fn wanted(
    authentication: &Authentication,
    authorization: &Authorization,
) -> Result<Vec<What>, RulesError> {
    let mut wanted = Vec::new();
    if authentication.enable {
        wanted_keys(authentication, &mut wanted)?;
    }
    if authorization.enable
        && let Some(source) = authorization.policy_source()
    {
        let place = match source {
            PolicySource::Text(text) => Place::Setting(
                "authorization.policy_data",
                crate::config::Secret::new(text),
            ),
            PolicySource::File(path) => Place::File(path),
            PolicySource::Url(url) => Place::Url(url),
        };
        let unanchored = authorization.unanchored;
        wanted.push(What::Policy { place, unanchored });
    }
    Ok(wanted)
}

fn wanted_keys(config: &Authentication, wanted: &mut Vec<What>) -> Result<(), RulesError> {
    let parties = Parties {
        issuer: config.issuer.clone(),
        audience: config.audience.clone(),
        ignores_times: false,
    };
    let counts = |source| config.counts(source);
    // The configuration has seen to it that a key comes with its algorithm.
    if let (Some(key), Some(word)) = (config.jwt_key_source(), config.jwt_signature_type)
        && let Some(algorithm) = Algorithm::configured(word.word())
    {
        let place = match key {
            KeySource::Text(text) => Place::Setting("authentication.jwt_config.key", text),
            KeySource::File(path) => Place::File(path),
        };
        wanted.push(What::Key {
            algorithm,
            place,
            parties: parties.clone(),
        });
    }
    if !config.config.expose().is_empty()
        && (counts(TokenSource::Local) || counts(TokenSource::Oidc))
    {
        wanted.push(of_form(Form::parse(config.config.expose())?, &parties));
    }
    if counts(TokenSource::Jwks) {
        let file = config.jwks_file.clone().map(Place::File);
        let url = config.jwks_url.clone().map(Place::Url);
        wanted.extend(file.into_iter().chain(url).map(|place| What::Set {
            place,
            parties: parties.clone(),
        }));
    }
    if counts(TokenSource::Oidc)
        && let Some(issuer) = &config.oidc_issuer
    {
        wanted.push(What::Provider {
            issuer: issuer.clone(),
            parties: Parties {
                issuer: Some(issuer.clone()),
                ..parties.clone()
            },
        });
    }
    let anybodys = |what: &What| match what {
        What::Provider { parties, .. } => parties.audience.is_empty(),
        What::Set { place, parties } => {
            matches!(place, Place::Url(_)) && parties.audience.is_empty()
        }
        _ => false,
    };
    if wanted.iter().any(anybodys) {
        tracing::warn!(
            "tokens that are meant for other services are taken, too: set authentication.audience"
        );
    }
    if counts(TokenSource::ApiKeys)
        && let Some(path) = &config.api_keys_file
    {
        wanted.push(What::ApiKeys(Place::File(path.clone())));
    }
    Ok(())
}

fn of_form(form: Form, usual: &Parties) -> What {
    match form {
        Form::Local { algorithm, key } => What::Key {
            algorithm,
            place: Place::Setting("authentication.config", crate::config::Secret::new(key)),
            parties: usual.clone(),
        },
        Form::Oidc {
            issuer,
            client_id,
            checks_issuer,
            checks_times,
        } => What::Provider {
            parties: Parties {
                issuer: checks_issuer.then(|| issuer.clone()),
                audience: client_id.into_iter().collect(),
                ignores_times: !checks_times,
            },
            issuer,
        },
    }
}

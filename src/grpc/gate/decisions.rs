//! What may be done: asked of the rules, and remembered.

use super::Gate;
use crate::grpc::codec::queue::{MessagesView, QueueMessageView};
use crate::grpc::observe::Access;
use crate::model::Kind;
use crate::model::name::{self, CHANNEL_BYTES_MAX, CLIENT_ID_BYTES_MAX, ROUTE_BYTES_MAX, Target};
use crate::rt;
use crate::security::{Action, Attempt, Denied, Resource};
use crate::wire_error::Refusal;

/// What stands for every channel where one is named: who lists them sees all.
const EVERY_CHANNEL: &str = ">";

/// What is spent on the messages or names of a request in one turn: looking at one counts as one.
const SPENT_PER_TURN: usize = 1024;

/// What it counts to ask the rules: each of them may read the names.
const ASKING: usize = SPENT_PER_TURN / 16;

/// Something that was allowed.
pub(super) struct Allowed {
    generation: u64,
    resource: Resource,
    action: Action,
    client_id: String,
    channel: String,
}

impl Gate {
    /// Whether something may be done to a channel.
    ///
    /// # Errors
    /// [`Refusal::AccessDenied`].
    #[inline]
    pub(in crate::grpc) fn allow(
        &mut self,
        access: &Access<'_>,
        action: Action,
    ) -> Result<(), Refusal> {
        if !self.security.authorizes() {
            return Ok(());
        }
        self.decide(&Attempt {
            resource: Resource::Messages(access.kind),
            action,
            client_id: access.client,
            channel: access.channel,
        })
    }

    /// Whether messages may come to be in a queue by what a message, or a request, asks for.
    ///
    /// # Errors
    /// [`Refusal::AccessDenied`].
    pub(in crate::grpc) fn allow_target(
        &mut self,
        client_id: &str,
        queue: &str,
    ) -> Result<(), Refusal> {
        if !self.security.authorizes() || queue.is_empty() {
            return Ok(());
        }
        self.decide(&Attempt {
            resource: Resource::Messages(Kind::Queues),
            action: Action::Write,
            client_id,
            channel: queue,
        })
    }

    /// Whether a channel may be looked at, or changed, as a thing. Without a name it is all of
    /// them.
    ///
    /// # Errors
    /// [`Refusal::AccessDenied`].
    pub(in crate::grpc) fn allow_managing(
        &mut self,
        client_id: &str,
        channel: Option<&str>,
        action: Action,
    ) -> Result<(), Refusal> {
        if !self.security.authorizes() {
            return Ok(());
        }
        self.decide(&Attempt {
            resource: Resource::Management,
            action,
            client_id,
            channel: channel.unwrap_or(EVERY_CHANNEL),
        })
    }

    /// Whether every queue message of a request may be sent: with the first that may not, none is.
    /// Those for a route count target by target, when they are sent.
    ///
    /// # Errors
    /// [`Refusal::AccessDenied`], [`Refusal::ClientIdBound`].
    pub(in crate::grpc) async fn allow_all(
        &mut self,
        messages: &MessagesView<'_>,
    ) -> Result<(), Refusal> {
        let bound = self.identity.client_id.is_some();
        if !bound && !self.security.authorizes() {
            return Ok(());
        }
        let mut spent = 0;
        for message in messages.messages() {
            // One that cannot be decoded is told in its place.
            if let Ok(view) = QueueMessageView::parse(message) {
                self.allow_message(&view)?;
                // Of a name that is longer than any route only the length is looked at.
                spent += view.channel.len().min(ROUTE_BYTES_MAX) / CHANNEL_BYTES_MAX;
            }
            self.take_turns(&mut spent).await;
        }
        Ok(())
    }

    /// Whether each of some channels may be looked at, or changed, as a thing.
    ///
    /// # Errors
    /// [`Refusal::AccessDenied`].
    pub(in crate::grpc) async fn allow_managing_all(
        &mut self,
        client_id: &str,
        channels: &[Box<str>],
        action: Action,
    ) -> Result<(), Refusal> {
        if !self.security.authorizes() {
            return Ok(());
        }
        let mut spent = 0;
        for channel in channels {
            self.allow_managing(client_id, Some(channel), action)?;
            self.take_turns(&mut spent).await;
        }
        Ok(())
    }

    /// Counts one that was looked at, and lets others have their turn when it was enough for one.
    async fn take_turns(&mut self, spent: &mut usize) {
        *spent += 1 + std::mem::take(&mut self.asked) * ASKING;
        if *spent >= SPENT_PER_TURN {
            *spent = 0;
            rt::reactor_yield().await;
        }
    }

    fn allow_message(&mut self, view: &QueueMessageView<'_>) -> Result<(), Refusal> {
        // Kept beside the gate: what it names is asked for through the gate.
        let identity = self.identity.clone();
        let client_id = self.security.client_id(&identity, view.client_id);
        let client_id = client_id.map_err(|_denied| self.client_id_refused(view.client_id))?;
        let sent = QueueMessageView { client_id, ..*view };
        // Names that no message may have are told in its place: the rules are not asked of them.
        let dead_letters = sent.policy.max_receive_queue;
        let is_queue = dead_letters.is_empty() || name::check_channel(dead_letters).is_ok();
        let target = match name::check_target(sent.channel) {
            Ok(target) if is_queue && name::check_client_id(client_id).is_ok() => target,
            Ok(_) | Err(_) => return Ok(()),
        };
        self.allow_target(client_id, dead_letters)?;
        match target {
            Target::Channel => {
                let access = Access::queue_message(&sent, sent.message_id, 0);
                self.allow(&access, Action::Write)
            }
            Target::Route => Ok(()),
        }
    }

    /// Whether something that stands, such as a subscription, may go on under the rules of now.
    ///
    /// # Errors
    /// [`Refusal::AccessDenied`], [`Refusal::ClientIdBound`].
    pub(in crate::grpc) fn allow_standing(
        &mut self,
        kind: Kind,
        client_id: &str,
        channel: &str,
    ) -> Result<(), Refusal> {
        if self.client_id(client_id)? != client_id {
            return Err(self.client_id_refused(client_id));
        }
        if !self.security.authorizes() {
            return Ok(());
        }
        self.decide(&Attempt {
            resource: Resource::Messages(kind),
            action: Action::Read,
            client_id,
            channel,
        })
    }

    fn decide(&mut self, attempt: &Attempt<'_>) -> Result<(), Refusal> {
        let generation = self.security.generation();
        let allowed = self.allowed.as_ref();
        if allowed.is_some_and(|allowed| allowed.is(generation, attempt)) {
            return Ok(());
        }
        // Names come here before they are checked, as long as a message. Nothing is called so.
        if attempt.client_id.len() > CLIENT_ID_BYTES_MAX
            || attempt.channel.len() > CHANNEL_BYTES_MAX
        {
            return Err(self.denied(attempt));
        }
        self.asked = self.asked.saturating_add(1);
        match self.security.authorize(&self.identity, attempt) {
            Ok(()) => {
                let allowed = self.allowed.get_or_insert_with(Allowed::nothing);
                allowed.set(generation, attempt);
                Ok(())
            }
            Err(Denied::Policy | Denied::ClientId) => Err(self.denied(attempt)),
        }
    }

    #[cold]
    fn denied(&self, attempt: &Attempt<'_>) -> Refusal {
        if self.security.audit().is_enabled() {
            let resource = match attempt.resource {
                Resource::Messages(kind) => kind.name(),
                Resource::Management => "management",
            };
            let action = match attempt.action {
                Action::Read => "read",
                Action::Write => "write",
            };
            let channel = attempt.channel;
            let (beginning, _) = channel.split_at(channel.floor_char_boundary(CHANNEL_BYTES_MAX));
            let target = format!("{action} {resource}:{beginning}");
            let text = Refusal::AccessDenied.text();
            self.record("access.denied", attempt.client_id, &target, Err(&text));
        }
        Refusal::AccessDenied
    }
}

impl Allowed {
    fn nothing() -> Box<Self> {
        Box::new(Self {
            generation: 0,
            resource: Resource::Management,
            action: Action::Read,
            client_id: String::new(),
            channel: String::new(),
        })
    }

    fn is(&self, generation: u64, attempt: &Attempt<'_>) -> bool {
        self.generation == generation
            && self.resource == attempt.resource
            && self.action == attempt.action
            && self.channel == attempt.channel
            && self.client_id == attempt.client_id
    }

    /// Takes the place of what was allowed before, in its memory.
    fn set(&mut self, generation: u64, attempt: &Attempt<'_>) {
        self.generation = generation;
        self.resource = attempt.resource;
        self.action = attempt.action;
        self.client_id.clear();
        self.client_id.push_str(attempt.client_id);
        self.channel.clear();
        self.channel.push_str(attempt.channel);
    }
}

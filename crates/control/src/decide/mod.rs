//! From a command to events, or to the problem that stands in its way.
//!
//! [`decide`] is the only place where it is settled whether something may
//! happen. It works on a [`Draft`], a cheap copy of the state that follows each
//! event at once, so that a command of several steps sees its own effects.

use helix_model::{AnyId, Command, Event, Id, Noun, Problem, State, Timestamp};

mod acme;
mod address;
mod anonymous;
mod app;
mod bundle;
mod certificate;
mod config;
mod deploy;
mod destroy;
mod domain;
mod edge;
mod endpoint;
mod env;
mod expose;
mod installation;
mod instance;
mod member;
mod node;
mod org;
mod policy;
mod project;
mod quota;
mod registry;
mod snapshot;
mod steps;
mod token;
mod tunnel;
mod user;
mod volume;

/// What a decision may depend on besides the state.
pub struct Context<'a> {
    pub now: Timestamp,
    /// Fresh randomness, for ids and the address block.
    pub entropy: &'a mut dyn FnMut() -> u128,
}

/// What came of a command.
#[derive(Debug)]
pub struct Decision {
    /// Empty when things are already as asked.
    pub events: Vec<Event>,
    /// What the command was chiefly about.
    pub subject: Option<AnyId>,
    /// What is near a limit because of it, a sentence each.
    pub warnings: Vec<String>,
    /// The state with the events applied.
    pub state: State,
}

/// Decides one command against the state.
pub fn decide(
    state: &State,
    command: &Command,
    context: &mut Context<'_>,
) -> Result<Decision, Problem> {
    let first = (context.entropy)();
    let mut draft = Draft { state: state.clone(), events: Vec::new(), context, next: first };
    let subject = carry_out(&mut draft, command)?;
    quota::check(state, &draft.state, command, subject)?;
    let mut warnings = quota::warnings(state, &draft.state, command, subject);
    warnings.extend(volume::warnings(&draft.state, command, subject));
    warnings.extend(expose::warnings(&draft.state, command, subject));
    warnings.extend(certificate::warnings(&draft.state, command, subject));
    Ok(Decision { events: draft.events, subject, state: draft.state, warnings })
}

fn carry_out(draft: &mut Draft<'_, '_>, command: &Command) -> Result<Option<AnyId>, Problem> {
    Ok(match command {
        Command::CreateInstallation => draft.create_installation(),
        Command::CreateOrg(it) => org::create(draft, it)?,
        Command::CreateProject(it) => project::create(draft, it)?,
        Command::CreateApp(it) => Some(app::create(draft, it)?.any()),
        Command::CreateEnv(it) => Some(env::create(draft, it)?.any()),
        Command::Destroy(it) => destroy::destroy(draft, it)?,
        Command::FinishDestroy(it) => destroy::finish(draft, *it)?,
        Command::SetNodeAvailability(it) => node::set_availability(draft, it)?,
        Command::SetQuota(it) => quota::set(draft, it)?,
        Command::SetRegistryLogin(it) => registry::set(draft, it)?,
        Command::RemoveRegistryLogin(it) => registry::remove(draft, it)?,
        Command::SetReleasePolicy(it) => policy::set(draft, it)?,
        Command::Deploy(it) => deploy::request(draft, it)?,
        Command::CreateRelease(it) => deploy::release(draft, it)?,
        Command::Promote(it) => deploy::promote(draft, it)?,
        Command::Rollback(it) => deploy::rollback(draft, it)?,
        Command::Scale(it) => env::scale(draft, it)?,
        Command::SetIpv4(it) => address::set_ipv4(draft, it)?,
        Command::Configure(it) => config::configure(draft, it)?,
        Command::SetSecrets(it) => bundle::set(draft, it)?,
        Command::StepSecrets(it) => bundle::step(draft, *it)?,
        Command::Reconcile(env) => steps::take(draft, *env),
        Command::FinishDeploy(it) => deploy::finish(draft, it)?,
        Command::AllocateInstance(it) => instance::allocate(draft, it)?,
        Command::SetInstanceDesired(it) => instance::set_desired(draft, it),
        Command::ObserveInstance(it) => instance::observe(draft, it),
        Command::MarkDrained(it) => instance::mark_drained(draft, it),
        Command::SetInstanceRouted(it) => instance::set_routed(draft, it),
        Command::ForgetInstance(it) => instance::forget(draft, *it),
        Command::ExposeEndpoint(it) => expose::expose(draft, it)?,
        Command::UnexposeEndpoint(it) => expose::unexpose(draft, it)?,
        Command::ObserveEndpoint(it) => endpoint::observe(draft, it),
        Command::ConnectNode(it) => node::connect(draft, it)?,
        Command::DisconnectNode(it) => node::disconnect(draft, it),
        Command::ConnectEdge(it) => edge::connect(draft, it)?,
        Command::DisconnectEdge(it) => edge::disconnect(draft, it),
        Command::ObserveNode(it) => node::observe(draft, it),
        Command::CreateVolume(it) => volume::create(draft, it)?,
        Command::ResizeVolume(it) => volume::resize(draft, it)?,
        Command::SetVolumeBackups(it) => volume::set_backups(draft, it)?,
        Command::ObserveVolume(it) => volume::observe(draft, it),
        Command::CreateSnapshot(it) => snapshot::create(draft, it)?,
        Command::ObserveSnapshot(it) => snapshot::observe(draft, it),
        Command::BackupRemoved(it) => snapshot::backup_removed(draft, it),
        Command::SetCertificate(it) => certificate::set(draft, it)?,
        Command::AgeCertificate(id) => certificate::age(draft, *id),
        Command::SetAuthority(it) => certificate::set_authority(draft, it),
        Command::AskForCertificate(it) => acme::ask(draft, it)?,
        Command::OfferChallenges(it) => acme::offer(draft, it),
        Command::ObserveChallenges(it) => acme::observe(draft, it),
        Command::FailOrder(it) => acme::fail(draft, it),
        Command::IssueCertificate(it) => acme::issue(draft, it),
        Command::AddDomain(it) => domain::add(draft, it)?,
        Command::ObserveDomain(it) => domain::observe(draft, it),
        Command::VouchForDomain(id) => domain::vouch(draft, *id)?,
        Command::Settle(it) => installation::settle(draft, it)?,
        Command::ChangeTunnel(it) => tunnel::change(draft, it)?,
        Command::CreateUser(it) => user::create(draft, it)?,
        Command::SetUserOperator(it) => user::set_operator(draft, it)?,
        Command::ChangeUserPassword(it) => user::change_password(draft, *it)?,
        Command::RemoveUser(it) => user::remove(draft, *it)?,
        Command::SetMember(it) => member::set(draft, it)?,
        Command::RemoveMember(it) => member::remove(draft, *it)?,
        Command::CreateToken(it) => token::create(draft, it)?,
        Command::RevokeToken(it) => token::revoke(draft, *it)?,
        Command::NoteTokenUse(it) => token::note_use(draft, *it),
    })
}

/// The state as it will be, and the events that lead there.
struct Draft<'c, 'e> {
    state: State,
    events: Vec<Event>,
    context: &'c mut Context<'e>,
    /// Entropy of the next id.
    next: u128,
}

impl Draft<'_, '_> {
    fn emit(&mut self, event: Event) {
        self.state.apply(self.state.position + 1, self.context.now, &event);
        self.events.push(event);
    }

    /// Ids of one command count up from one random number, so that what is made
    /// in the same millisecond is listed in the order it was made.
    fn fresh_id<N: Noun>(&mut self) -> Id<N> {
        let id = Id::new(self.context.now, self.next);
        self.next = self.next.wrapping_add(1);
        id
    }

    fn create_installation(&mut self) -> Option<AnyId> {
        if self.state.position == 0 {
            let entropy = (self.context.entropy)();
            let created = helix_model::event::InstallationCreated::fresh(entropy);
            self.emit(Event::InstallationCreated(created));
        }
        None
    }
}

//! People: they wish for things, ask a random replica, ask again with the same
//! key when no answer comes, and now and then repeat themselves much later.

use helix_model::address::SetIpv4;
use helix_model::{Code, Command, Receipt, deploy, env, org, project};

use super::World;
use super::happening::{Happening, Message, Place};
use super::replica::Origin;
use super::{tenants, tunnels, wishes};

/// How long a person waits for an answer.
const PATIENCE_MS: u64 = 3000;

/// One thing a person asks for; its number is its idempotency key.
pub(crate) struct Wish {
    pub command: Command,
    /// Answered for good.
    pub settled: bool,
}

impl World {
    /// Makes the installation; what every server does when it finds it empty.
    pub(crate) fn bootstrap(&mut self, index: usize) {
        self.submit(index, Command::CreateInstallation, Origin::System);
    }

    /// A person thinks of something, knowing what some replica shows.
    pub(crate) fn wish(&mut self) {
        if self.healed_at.is_some() {
            return;
        }
        let pause = self.random.between(100, 2500);
        self.agenda.plan(pause, Happening::Wish);
        if let Some(command) = self.think() {
            let wish = self.wishes.len();
            self.tell(|| format!("wish {wish}: {}", wishes::describe(&command)));
            self.wishes.push(Wish { command, settled: false });
            self.agenda.plan(0, Happening::Ask { wish });
        }
    }

    fn think(&mut self) -> Option<Command> {
        let random = &mut self.random;
        let shown = random.index(self.replicas.len());
        let state = &self.replicas[shown].state;
        if state.position == 0 {
            return None;
        }
        let orgs: Vec<_> = state.orgs.iter().collect();
        if orgs.is_empty() || orgs.len() < self.orgs && random.percent(20) {
            let name = wishes::pick_name(random, &["acme", "umbra"])?;
            return Some(Command::CreateOrg(org::Create { name }));
        }
        let projects: Vec<_> = state.projects.iter().collect();
        if projects.is_empty() || projects.len() < 3 && random.percent(10) {
            let org = orgs[random.index(orgs.len())].id;
            let name = wishes::pick_name(random, &["main", "other"])?;
            return Some(Command::CreateProject(project::Create { org, name }));
        }
        if random.percent(8) {
            return tenants::wish(random, state);
        }
        if random.percent(6) {
            return tunnels::wish(random, state);
        }
        if random.percent(12)
            && let Some(wish) = tenants::snapshot_wish(random, state)
        {
            return Some(wish);
        }
        let project = projects[random.index(projects.len())];
        let envs: Vec<_> = state.envs.iter().collect();
        let drawn = random.between(0, 99);
        if envs.is_empty() || drawn < 60 {
            let org = state.orgs.get(project.spec.org)?.name.clone();
            let request = wishes::deploy(random, org, project.name.clone())?;
            return Some(Command::Deploy(Box::new(request)));
        }
        let env = envs[random.index(envs.len())];
        if drawn < 80 {
            let process = wishes::pick_name(random, &["web", "web", "web", "worker"])?;
            let count = u32::try_from(random.between(0, 4)).ok()?;
            let processes = [(process, count)].into();
            return Some(Command::Scale(env::Scale { env: env.id, processes }));
        }
        if drawn < 86 {
            let enabled = random.percent(70);
            return Some(Command::SetIpv4(SetIpv4 { env: env.id, enabled }));
        }
        let releases: Vec<_> = state.releases.children(env.spec.app.any()).collect();
        let named = random.percent(30) && !releases.is_empty();
        let to = named.then(|| releases[random.index(releases.len())].id);
        Some(Command::Rollback(deploy::Rollback { env: env.id, to }))
    }

    /// A person asks, or asks again.
    pub(crate) fn ask(&mut self, wish: usize) {
        let replica = self.random.index(self.replicas.len());
        self.send(None, Place::People, Place::Replica(replica), Message::Ask { wish });
        if !self.wishes[wish].settled {
            let patience = self.random.between(500, PATIENCE_MS);
            self.agenda.plan(patience, Happening::Ask { wish });
        }
    }

    /// A replica hears a person.
    pub(crate) fn asked(&mut self, index: usize, wish: usize) {
        if self.replicas[index].up {
            let command = self.wishes[wish].command.clone();
            self.submit(index, command, Origin::Person(wish));
        }
    }

    /// A person hears an answer.
    pub(crate) fn answered(&mut self, wish: usize, answer: Result<Box<Receipt>, Code>) {
        match answer {
            Ok(receipt) => {
                self.tell(|| format!("wish {wish} was granted at {}", receipt.position));
                self.checks.acknowledged.answered(&mut self.checks.failed, wish, *receipt);
            }
            Err(Code::Unavailable) => return,
            Err(_) => {}
        }
        if !self.wishes[wish].settled {
            self.wishes[wish].settled = true;
            if self.healed_at.is_none() && self.random.percent(15) {
                let later = self.random.between(10, 20_000);
                self.agenda.plan(later, Happening::Ask { wish });
            }
        }
    }
}

//! Instances that may reach each other, and those that may not.

use std::net::SocketAddr;

use helix_model::plan::{InstancePlan, Running};
use helix_model::{Env, Id, Timestamp};

use crate::egress::{assert_refused, has_nft};
use crate::tests::leave;
use crate::world::{DEADLINE, World, eventually};

/// The number of the env that every plan is in if nothing else is said.
const HOME: u128 = 2;

pub(crate) async fn instances_of_one_env_find_each_other_where_it_asks_for_that() {
    if !has_nft() {
        return;
    }
    let mut world = World::new().await;
    let web = member(&world, 1, "web", HOME);
    let db = member(&world, 2, "db", HOME);
    let stranger = member(&world, 3, "web", HOME + 1);
    let other = member(&world, 4, "web", HOME + 1);
    let closed = InstancePlan { intra_env: false, ..member(&world, 5, "web", HOME) };
    let all = [&web, &db, &stranger, &other, &closed];
    world.apply(&all);
    for plan in all {
        world.ready(plan).await;
    }

    // By name: of the instance, and of the process.
    let line = format!("{} db-2.internal db.internal", world.ipv4(db.id));
    assert_eq!(peers(&world, &web).await, [line]);
    assert_eq!(peers(&world, &stranger).await.len(), 1);
    assert!(peers(&world, &closed).await.is_empty());
    for (from, to) in [(&web, &db), (&db, &web), (&stranger, &other)] {
        assert_eq!(get(&world, from, to).await, to.id.to_string());
    }

    // Nobody of another env, nobody who has not asked for it, and nothing over IPv6.
    for (from, to) in [(&web, &stranger), (&stranger, &web), (&web, &closed), (&closed, &web)] {
        refused(&world, from, at(&world, to)).await;
    }
    refused(&world, &web, SocketAddr::from((db.address, 8080))).await;

    // An agent that begins anew parts nobody.
    world.restart_agent().await;
    assert_eq!(get(&world, &web, &db).await, db.id.to_string());

    // Who is being emptied is not found any more, and goes on with what it has.
    let emptied = InstancePlan { desired: Running::Draining, ..db.clone() };
    world.apply(&[&web, &emptied, &stranger, &other, &closed]);
    until_known(&world, &web, 0).await;
    assert_eq!(get(&world, &db, &web).await, web.id.to_string());

    // Who is gone is known to nobody, and its address opens nothing.
    let left = at(&world, &db);
    world.apply(&[&web, &stranger, &other, &closed]);
    world.gone(&db).await;
    let next = member(&world, 6, "web", HOME + 2);
    world.apply(&[&web, &stranger, &other, &closed, &next]);
    world.ready(&next).await;
    assert_eq!(at(&world, &next), left, "the lowest free address is given out");
    assert!(peers(&world, &web).await.is_empty());
    refused(&world, &web, left).await;

    // Who comes later is told to those who were there.
    let late = member(&world, 7, "late", HOME);
    world.apply(&[&web, &stranger, &other, &closed, &next, &late]);
    world.ready(&late).await;
    let known = peers(&world, &web).await;
    assert!(known[0].ends_with(" late-7.internal late.internal"), "{known:?}");
    assert_eq!(get(&world, &web, &late).await, late.id.to_string());
    leave(world, &[&web, &stranger, &other, &closed, &next, &late]).await;
    eventually("nothing of the rules is left", || !crate::egress::has_table()).await;
}

fn member(world: &World, number: u64, process: &str, env: u128) -> InstancePlan {
    let env: Id<Env> = Id::new(Timestamp(1), env);
    let name = format!("{process}-{number}").parse().unwrap();
    let process = process.parse().unwrap();
    InstancePlan { name, process, env, intra_env: true, ..world.server(number) }
}

/// The lines of its `/etc/hosts` that name others.
async fn peers(world: &World, of: &InstancePlan) -> Vec<String> {
    let hosts = world.run(of.id, &["read", "/etc/hosts"]).await;
    hosts.lines().filter(|line| line.contains(".internal")).map(str::to_owned).collect()
}

fn at(world: &World, plan: &InstancePlan) -> SocketAddr {
    SocketAddr::from((world.ipv4(plan.id), 8080))
}

/// What one answers when another asks it.
async fn get(world: &World, from: &InstancePlan, to: &InstancePlan) -> String {
    world.run(from.id, &["get", &at(world, to).to_string()]).await
}

/// Waits until an instance knows of so many others.
async fn until_known(world: &World, of: &InstancePlan, count: usize) {
    let deadline = tokio::time::Instant::now() + DEADLINE;
    while peers(world, of).await.len() != count {
        assert!(tokio::time::Instant::now() < deadline, "never: {count} peers");
    }
}

async fn refused(world: &World, from: &InstancePlan, to: SocketAddr) {
    let to = to.to_string();
    assert_refused(&world.run(from.id, &["reach", &to]).await, &to);
}

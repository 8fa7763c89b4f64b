//! The schedule against paths that forget after any bound, lose packets, or have a peer that closes. No clock, no socket.
#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;
use proptest::prelude::*;

fn secs(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}

/// A path in a model: what becomes of a connection of this age.
type Model<'a> = &'a mut dyn FnMut(Duration) -> Observation;

/// A path that forgets after `bound`.
fn forgets(bound: Duration) -> impl FnMut(Duration) -> Observation {
    move |age| Observation { age, fate: if age < bound { Fate::Survived } else { Fate::Dropped } }
}

/// Run a whole measurement on a model; the time it would have taken.
fn run(plan: &mut Ageing, connections: usize, path: Model<'_>) -> Duration {
    let mut spent = Duration::ZERO;
    while !plan.is_done(spent) {
        let mut last = Duration::ZERO;
        for age in plan.round(connections) {
            // What is longer than what died is given up once that is known.
            if plan.wants(age) {
                let seen = path(age);
                last = last.max(seen.age);
                plan.observe(seen);
            }
        }
        spent += last + VERDICT;
    }
    spent
}

proptest! {
    #[test]
    fn the_bound_is_always_in_the_bracket_and_the_time_is_kept(
        bound in 0.05_f64..40_000.0, up_to in 1.0_f64..32_000.0, connections in 1_usize..70,
    ) {
        let (bound, mut plan) = (secs(bound), Ageing::new(secs(up_to)));
        let spent = run(&mut plan, connections, &mut forgets(bound));
        prop_assert!(spent <= plan.at_most(), "{spent:?} of {:?}", plan.at_most());
        let found = plan.found();
        prop_assert!(found.survived.unwrap_or_default() < bound);
        prop_assert!(found.idle_timeout().unwrap_or_default() < bound);
        match found.died {
            Some(died) => prop_assert!(died.age >= bound && bound <= plan.up_to()),
            None => prop_assert!(bound > plan.up_to() && found.survived >= Some(plan.up_to())),
        }
    }

    #[test]
    fn eight_connections_find_the_bound_to_an_eighth(bound in 1.0_f64..1200.0) {
        let mut plan = Ageing::new(secs(1200.0));
        run(&mut plan, 8, &mut forgets(secs(bound)));
        let (low, high) = plan.bracket();
        prop_assert!(high.saturating_sub(low) <= (high / 8).max(secs(1.0)), "{low:?} {high:?} of {bound}");
    }

    #[test]
    fn a_round_is_ascending_and_within_what_is_open(
        up_to in 1.0_f64..40_000.0, connections in 1_usize..70, bound in 0.1_f64..40_000.0,
    ) {
        let mut plan = Ageing::new(secs(up_to));
        for _ in 0..3 {
            let (low, high) = plan.bracket();
            let ages = plan.round(connections);
            prop_assert!(ages.is_sorted() && ages.len() == connections.min(MOST));
            let slack = Duration::from_micros(1);
            prop_assert!(ages.iter().all(|age| *age >= low && *age <= high + slack), "{low:?} {ages:?} {high:?}");
            for age in ages {
                plan.observe(forgets(secs(bound))(age));
            }
        }
    }

    #[test]
    fn a_lost_packet_never_makes_the_path_look_longer(
        bound in 0.5_f64..600.0, lost in prop::collection::vec(any::<bool>(), 40),
    ) {
        let (bound, mut lost) = (secs(bound), lost.into_iter().cycle());
        let mut plan = Ageing::new(secs(600.0));
        let mut path = |age: Duration| {
            let dead = age >= bound || lost.next().unwrap();
            Observation { age, fate: if dead { Fate::Dropped } else { Fate::Survived } }
        };
        let spent = run(&mut plan, 8, &mut path);
        prop_assert!(spent <= plan.at_most());
        prop_assert!(plan.found().idle_timeout().unwrap_or_default() < bound);
    }
}

#[test]
fn the_first_round_doubles_and_ends_where_it_was_told() {
    let ages = Ageing::new(secs(1200.0)).round(8);
    let wanted = [9.375, 18.75, 37.5, 75.0, 150.0, 300.0, 600.0, 1200.0];
    for (age, wanted) in ages.iter().zip(wanted) {
        assert!((age.as_secs_f64() - wanted).abs() < 0.001, "{ages:?}");
    }
    assert_eq!(Ageing::new(secs(1200.0)).round(1), [secs(1200.0)]);
}

#[test]
fn a_death_that_is_not_seen_again_is_refuted() {
    let mut plan = Ageing::new(secs(100.0));
    let mut hiccup = true;
    let mut path = |age: Duration| {
        let dead = age > secs(20.0) && std::mem::take(&mut hiccup);
        Observation { age, fate: if dead { Fate::Dropped } else { Fate::Survived } }
    };
    run(&mut plan, 8, &mut path);
    let found = plan.found();
    assert_eq!((found.died, found.refuted), (None, 1));
    assert!(found.survived >= Some(secs(25.0)), "{found:?}");
}

#[test]
fn what_is_longer_than_a_death_is_not_waited_for() {
    let mut plan = Ageing::new(secs(100.0));
    plan.observe(Observation { age: secs(10.0), fate: Fate::Reset });
    assert!(plan.wants(secs(9.0)) && !plan.wants(secs(11.0)));
    assert!(plan.wants(secs(10.0)), "it may have been a lost packet");
    plan.observe(Observation { age: secs(10.1), fate: Fate::Reset });
    assert!(!plan.wants(secs(10.0)));
}

#[test]
fn a_peer_that_closes_is_no_death_and_the_path_lived_until_then() {
    let mut plan = Ageing::new(secs(1200.0));
    let mut path = |age: Duration| {
        let closed = age >= secs(60.0);
        let fate = if closed { Fate::Closed } else { Fate::Survived };
        Observation { age: age.min(secs(60.0)), fate }
    };
    run(&mut plan, 8, &mut path);
    let found = plan.found();
    assert_eq!((found.died, found.closed, plan.rounds()), (None, Some(secs(60.0)), 1));
    assert_eq!((found.lives(), found.idle_timeout()), (Some(secs(60.0)), Some(secs(60.0))));
}

#[test]
fn a_router_that_is_quicker_than_the_peer_is_found_all_the_same() {
    let mut plan = Ageing::new(secs(1200.0));
    let mut path = |age: Duration| match age {
        age if age >= secs(60.0) => Observation { age: secs(60.0), fate: Fate::Closed },
        age if age >= secs(30.0) => Observation { age, fate: Fate::Dropped },
        age => Observation { age, fate: Fate::Survived },
    };
    run(&mut plan, 8, &mut path);
    let found = plan.found();
    let died = found.died.unwrap().age;
    assert!(found.survived.unwrap() < secs(30.0) && died >= secs(30.0) && died < secs(33.0), "{found:?}");
    assert_eq!(found.lives(), found.survived);
}

#[test]
fn a_peer_that_never_is_silent_ends_it() {
    let mut plan = Ageing::new(secs(1200.0));
    plan.round(8);
    plan.observe(Observation { age: secs(3.0), fate: Fate::Talked });
    assert!(plan.is_done(secs(3.0)) && plan.found().talked && plan.found().idle_timeout().is_none());
}

#[test]
fn what_is_suggested_is_round_and_never_longer() {
    let of = |seconds: f64| {
        let mut plan = Ageing::new(LONGEST);
        plan.observe(Observation { age: secs(seconds), fate: Fate::Survived });
        plan.found().idle_timeout()
    };
    for (survived, wanted) in
        [(346.3, 345.0), (59.9, 59.0), (1190.0, 1170.0), (1200.1, 1200.0), (3725.0, 3720.0), (0.85, 0.8)]
    {
        assert_eq!(of(survived), Some(secs(wanted)), "{survived}");
    }
    assert_eq!(of(0.05), None);
}

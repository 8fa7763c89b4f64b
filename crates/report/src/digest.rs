//! A hash over how every item stands. Two sides that hash the same have nothing left to tell each other.

use crate::{Item, Status};
use sha2::{Digest, Sha256};
use std::fmt::Write as _;

/// `sha256:` and 64 hex digits over the sorted (id, status, facts, layer, attr, observed, desired) of every item.
///
/// Statuses are hashed as they are left after the pass ([`Status::settled`]), and what a compliant item was off by
/// before is history, so a repair and the quiet pass after it hash the same. Fields are length-prefixed: no value
/// can pass for two.
#[must_use]
pub fn state_digest<'a>(items: impl IntoIterator<Item = &'a Item>) -> String {
    let mut items: Vec<&Item> = items.into_iter().collect();
    items.sort_by(|a, b| a.id.cmp(&b.id));
    let mut hash = Sha256::new();
    let mut field = |text: &str| {
        hash.update((text.len() as u64).to_le_bytes());
        hash.update(text);
    };
    for item in items {
        let status = item.status.settled();
        field(&item.id);
        field(status.word());
        for (name, value) in &item.facts {
            field("fact");
            field(name);
            field(value);
        }
        if status <= Status::Compliant {
            continue;
        }
        let mut drift: Vec<_> = item.drift.iter().collect();
        drift.sort();
        for drift in drift {
            field(&drift.layer.to_string());
            field(&drift.attr);
            field(drift.observed.as_deref().unwrap_or("\0"));
            field(&drift.desired);
        }
    }
    hash.finalize().iter().fold("sha256:".to_owned(), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

#[cfg(test)]
mod tests {
    use super::state_digest;
    use crate::{Drift, Item, Layer, Status};
    use proptest::prelude::*;

    fn item(id: &str, status: Status, observed: &str) -> Item {
        let drift = Drift {
            attr: "value".into(),
            layer: Layer::Kernel,
            observed: Some(observed.into()),
            desired: "60".into(),
        };
        Item {
            id: id.into(),
            status,
            change: None,
            phase: None,
            reason: None,
            declared_at: None,
            drift: vec![drift],
            repaired: vec![],
            writer: None,
            since: None,
            attempts: 0,
            facts: std::collections::BTreeMap::new(),
            progress: None,
        }
    }

    #[test]
    fn a_repair_and_the_quiet_pass_after_it_hash_the_same() {
        let repaired = [item("a", Status::Repaired, "7200")];
        let quiet = [Item { drift: vec![], ..item("a", Status::Compliant, "") }];
        assert_eq!(state_digest(&repaired), state_digest(&quiet));
    }

    #[test]
    fn one_flipped_status_or_value_changes_it() {
        let was = [item("a", Status::Pending, "1"), item("b", Status::Error, "2")];
        let status = [item("a", Status::NonCompliant, "1"), item("b", Status::Error, "2")];
        let value = [item("a", Status::Pending, "1"), item("b", Status::Error, "3")];
        assert_ne!(state_digest(&was), state_digest(&status));
        assert_ne!(state_digest(&was), state_digest(&value));
    }

    #[test]
    fn a_fact_that_changes_on_a_compliant_item_changes_it() {
        let uid = |uid: &str| Item {
            facts: [("owner.uid".to_owned(), uid.to_owned())].into(),
            ..item("a", Status::Compliant, "")
        };
        assert_ne!(state_digest(&[uid("1001")]), state_digest(&[uid("1005")]));
        assert_ne!(state_digest(&[uid("1001")]), state_digest(&[item("a", Status::Compliant, "")]));
    }

    proptest! {
        #[test]
        fn the_order_of_items_does_not_matter(ids in proptest::collection::btree_set("[a-z]{1,4}", 1..8)) {
            let items: Vec<_> = ids.iter().map(|id| item(id, Status::Error, id)).collect();
            let backwards: Vec<_> = items.iter().rev().cloned().collect();
            prop_assert_eq!(state_digest(&items), state_digest(&backwards));
        }
    }
}

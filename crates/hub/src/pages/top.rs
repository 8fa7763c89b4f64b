//! Who looks at a page: what its head says of him, and whether it has forms for him.

use crate::accounts::Who;
use crate::store::accounts::Role;

/// Who looks.
pub(crate) struct Top {
    /// His account.
    pub(super) name: Option<String>,
    /// Whether he may see what administrators see.
    pub(super) admin: bool,
    /// Whether he may act on what people are told, tiers aside; only a browser that is signed in has forms.
    pub(super) acts: bool,
    /// What his forms carry.
    pub(super) form: String,
}

impl Top {
    pub(crate) fn of(who: &Who) -> Self {
        Self {
            name: who.name.clone(),
            admin: who.role == Role::Admin,
            acts: who.role >= Role::Operator && who.form.is_some(),
            form: who.form.clone().unwrap_or_default(),
        }
    }

    /// Nobody, who is about to sign in.
    pub(super) fn nobody() -> Self {
        Self::of(&Who::anybody())
    }
}

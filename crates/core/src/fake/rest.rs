//! What else the fake node answers: probes, folders in step with others, slots of the fleet.

use super::FakeNode;
use crate::{Class, Compared, Fault, MirrorJob, Probed, Probing};

impl FakeNode {
    pub(super) fn ask(&self, what: &Probed) -> Probing {
        let told = self.probings.iter().find(|(asked, _)| asked == what).map(|(_, told)| told.clone());
        told.unwrap_or_else(|| Probing::Failed("connection refused".into()))
    }

    pub(super) fn carry_over(&mut self, job: &MirrorJob) {
        let seen = self.mirrors.entry(job.to.clone()).or_default();
        let source = seen.compared.as_ref().map_or(0, |compared| compared.source);
        seen.compared = Some(Compared { source, here: source, ..Compared::default() });
        seen.in_step_at = Some(self.time);
    }

    pub(super) fn take_slot(&mut self, group: &str, holder: &str) -> Result<(), Fault> {
        if self.slots_gone.contains(group) {
            let why = format!("another node of {group} has the slot");
            return Err(Fault::new(why).class(Class::Waiting));
        }
        self.slots.insert((group.to_owned(), holder.to_owned()));
        Ok(())
    }
}

//! Security groups: made, changed, asked for by ENIs, ended.

use model::{SecurityGroupId, Timestamp};

use super::World;
use crate::{
    effect::Effect,
    group::{GroupKind, KnownRule, RULES_MAX, Remote, Rule, SecurityGroup},
    refusal::{Outcome, Refusal},
};

impl World {
    pub(crate) fn group(&self, id: &str) -> Outcome<&SecurityGroup> {
        let group = SecurityGroupId::new(id)
            .ok()
            .and_then(|id| self.groups.get(&id));
        group.ok_or_else(|| Refusal::no_security_group(id))
    }

    /// The groups an ENI shall be in: all there, and of one kind.
    pub(crate) fn security_groups(&self, ids: &[&str]) -> Outcome<Vec<SecurityGroupId>> {
        let groups = ids.iter().map(|id| self.group(id));
        let groups = groups.collect::<Outcome<Vec<_>>>()?;
        // Unconfirmed: which code it is.
        if groups.windows(2).any(|two| two[0].kind != two[1].kind) {
            return Err(Refusal::invalid("SecurityGroupIds.N", "groups of one type"));
        }
        Ok(groups.into_iter().map(|group| group.id.clone()).collect())
    }

    pub(crate) fn add_group(&mut self, group: SecurityGroup) {
        self.groups.insert(group.id.clone(), group.clone());
        self.effects.push_back(Effect::Group(group));
    }

    /// Changes a group, and says so.
    pub(crate) fn change_group(
        &mut self,
        id: &SecurityGroupId,
        apply: impl FnOnce(&mut SecurityGroup),
    ) {
        if let Some(group) = self.groups.get_mut(id) {
            apply(group);
            self.effects.push_back(Effect::Group(group.clone()));
        }
    }

    /// Adds rules, all or none. One that is there already is left alone.
    pub(crate) fn authorize(
        &mut self,
        now: Timestamp,
        id: &SecurityGroupId,
        rules: Vec<(Rule, String)>,
    ) -> Outcome<()> {
        let group = self.group(id.as_str())?;
        let mut fresh: Vec<KnownRule> = Vec::new();
        for (rule, description) in rules {
            self.check_rule(group, &rule)?;
            if group
                .rules
                .iter()
                .chain(&fresh)
                .all(|known| known.rule != rule)
            {
                fresh.push(KnownRule {
                    id: String::new(),
                    rule,
                    description,
                    created: now,
                });
            }
        }
        if group.rules.len() + fresh.len() > RULES_MAX {
            return Err(Refusal::too_many_rules(id, RULES_MAX));
        }
        for known in &mut fresh {
            known.id = self.dice.id("sgr");
        }
        self.change_group(id, |group| group.rules.extend(fresh));
        Ok(())
    }

    fn check_rule(&self, group: &SecurityGroup, rule: &Rule) -> Outcome<()> {
        let Remote::Group(other) = &rule.remote else {
            return Ok(());
        };
        if group.kind == GroupKind::Advanced {
            // Unconfirmed: which code it is. The page: rules of advanced groups name no groups.
            return Err(Refusal::invalid(
                "SecurityGroupId",
                "a basic group where a rule names one",
            ));
        }
        if *other == group.id {
            return Err(Refusal::group_of_itself(other));
        }
        match self.groups.contains_key(other) {
            true => Ok(()),
            false => Err(Refusal::no_source_group(other)),
        }
    }

    /// Ends a group that no ENI is in and no rule names.
    pub(crate) fn delete_group(&mut self, id: &str) -> Outcome<()> {
        let id = self.group(id)?.id.clone();
        let in_use = self
            .enis
            .values()
            .any(|eni| eni.security_groups.contains(&id));
        if in_use || self.groups.values().any(|group| group.names(&id)) {
            return Err(Refusal::group_in_use(&id));
        }
        self.groups.remove(&id);
        self.effects.push_back(Effect::GroupGone(id));
        Ok(())
    }
}

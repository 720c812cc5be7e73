//! ENIs of others are never touched.

use std::collections::BTreeMap;

use engine::node::Api;

use crate::world::{Step, World};

#[test]
fn an_eni_of_others_is_left_alone() {
    let mut world = World::with(|config| {
        config.policy.tag_filter = BTreeMap::from([("pool".into(), "a".into())]);
        config.tags.insert("pool".into(), "a".into());
    });
    let ours = ("creator", "terway");
    let strangers = [
        world.cloud().add_foreign(&[ours, ("pool", "b")]),
        world.cloud().add_foreign(&[
            ours,
            ("pool", "a"),
            ("terway.alibabacloud.com/excluded", "true"),
        ]),
    ];
    world.step(Step::Add(1));
    world.calm();
    assert_eq!(world.view().assigned, 1);
    for stranger in strangers {
        assert!(world.view().enis.iter().all(|eni| eni.id != stranger));
        assert!(world.cloud().secondary_enis().contains_key(&stranger));
    }
}

#[test]
fn an_eni_that_is_given_to_somebody_else_serves_its_pods_and_nobody_after_them() {
    let mut world = World::new();
    world.calm();
    world.step(Step::Add(1));
    world.pass(5);
    let eni = world.view().enis[0].id.clone();
    let before = world.cloud().secondary_enis()[&eni].clone();
    world
        .cloud()
        .tag(&eni, "terway.alibabacloud.com/excluded", "true");
    // The next look at the node's ENIs.
    world.pass(1_000);
    world.step(Step::Add(2));
    world.pass(30);
    assert_eq!(world.view().assigned, 2);
    assert!(world.addresses(2).is_disjoint(&before));
    world.step(Step::Del(1));
    world.pass(2_000);
    assert!(
        world.view().enis.iter().all(|it| it.id != eni),
        "no business of ours"
    );
    assert_eq!(world.cloud().secondary_enis()[&eni], before, "untouched");
    let away = [Api::DetachNetworkInterface, Api::DeleteNetworkInterface];
    assert_eq!(world.cloud().called(&away), 0);
}

//! Watches, their bound, and pages.

use crate::*;

#[test]
fn a_watch_replays_what_its_selector_sees() {
    let mut cluster = cluster();
    let start = cluster.revision();
    create(&mut cluster, &PODS, pod("web"));
    let target = at(&PODS, "web");
    let label = |value: Value| Patch::Merge(json!({ "metadata": { "labels": { "app": value } } }));
    patch(&mut cluster, target, label("a".into())).expect("labelled");
    patch(
        &mut cluster,
        target,
        Patch::Merge(json!({ "metadata": { "annotations": { "x": "1" } } })),
    )
    .expect("annotated");
    patch(&mut cluster, target, label(Value::Null)).expect("unlabelled");
    let (added, changed, gone) = (ChangeKind::Added, ChangeKind::Modified, ChangeKind::Deleted);
    assert_eq!(
        kinds(&cluster, &PODS, "", start),
        [added, changed, changed, changed]
    );
    assert_eq!(
        kinds(&cluster, &PODS, "app=a", start),
        [added, changed, gone]
    );
    assert_eq!(kinds(&cluster, &PODS, "app=b", start), []);
    assert_eq!(kinds(&cluster, &PODS, "", cluster.revision()), []);
    let last = Selector::parse(&PODS, "app=a", "").expect("selector");
    let batch = cluster
        .events_since(&PODS, "", &last, start, 1_000)
        .expect("events");
    let object = &batch.events[2].object["metadata"];
    assert_eq!(
        (&object["labels"]["app"], &object["resourceVersion"]),
        (&json!("a"), &json!(cluster.revision().to_string()))
    );
    let first = cluster
        .events_since(&PODS, "", &Selector::default(), start, 1)
        .expect("one");
    let rest = cluster
        .events_since(&PODS, "", &Selector::default(), first.seen, 10)
        .expect("rest");
    assert_eq!((first.events.len(), rest.events.len()), (1, 3));
}

#[test]
fn history_is_bounded_and_says_when_it_does_not_reach_back() {
    let mut cluster = cluster();
    create(
        &mut cluster,
        &CONFIG_MAPS,
        json!({ "metadata": { "name": "m" } }),
    );
    let start = cluster.revision();
    for value in 0..=HISTORY_LIMIT {
        let data = json!({ "data": { "k": value.to_string() } });
        patch(&mut cluster, at(&CONFIG_MAPS, "m"), Patch::Merge(data)).expect("patched");
    }
    let all = Selector::default();
    let late = cluster
        .events_since(&CONFIG_MAPS, "", &all, start, 1)
        .expect_err("too old");
    assert_eq!((late.code(), late.reason()), (410, "Expired"));
    assert!(
        cluster
            .events_since(&CONFIG_MAPS, "", &all, start + 1, 1)
            .is_ok()
    );
    let old = ListQuery {
        at: Some(start),
        ..ListQuery::default()
    };
    assert_eq!(
        cluster
            .list(&CONFIG_MAPS, "", &old)
            .map_err(|e| e.code())
            .err(),
        Some(410)
    );
    let future = ListQuery {
        at: Some(u64::MAX),
        ..ListQuery::default()
    };
    assert_eq!(
        cluster
            .list(&CONFIG_MAPS, "", &future)
            .map_err(|e| e.code())
            .err(),
        Some(504)
    );
}

#[test]
fn pages_are_of_one_moment() {
    let mut cluster = cluster();
    for name in ["a", "b", "c"] {
        create(&mut cluster, &PODS, pod(name));
    }
    let mut query = ListQuery {
        limit: 2,
        ..ListQuery::default()
    };
    let first = cluster.list(&PODS, "", &query).expect("page");
    assert_eq!((first.items.len(), first.remaining), (2, Some(1)));
    cluster
        .delete(NOW, at(&PODS, "c"), &DeleteOptions::default())
        .expect("deleted");
    create(&mut cluster, &PODS, pod("d"));
    query.continue_token = first.continue_token.expect("more");
    let second = cluster.list(&PODS, "", &query).expect("page");
    let names: Vec<_> = second
        .items
        .iter()
        .map(|pod| &pod["metadata"]["name"])
        .collect();
    assert_eq!((names, second.continue_token), (vec![&json!("c")], None));
    query.continue_token = "!".into();
    assert_eq!(
        cluster.list(&PODS, "", &query).map_err(|e| e.code()).err(),
        Some(400)
    );
}

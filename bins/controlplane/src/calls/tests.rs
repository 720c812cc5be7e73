//! Every call against the lab's region, with the whole of `deploy/ram/controlplane-trunk.json` and with one action
//! less.

use std::{collections::BTreeSet, net::Ipv4Addr};

use cloud::{Config, Credentials, Endpoint, Keys, Scheme, Source};
use cloudsim::{Grant, Instance, InstanceSpec, Region, RegionConfig, http};
use model::{ClientToken, InstanceId, InterfaceName, RegionId, SecurityGroupId};
use serde_json::Value;
use tokio::net::TcpListener;

use super::*;

const POLICY: &str = include_str!("../../../../deploy/ram/controlplane-trunk.json");

/// The actions of a policy.
pub(crate) fn granted_by(policy: &str) -> BTreeSet<String> {
    let policy: Value = serde_json::from_str(policy).unwrap();
    let statements = policy["Statement"].as_array().unwrap().iter();
    let actions = statements.flat_map(|one| one["Action"].as_array().unwrap());
    actions
        .map(|action| action.as_str().unwrap().to_owned())
        .collect()
}

fn granted() -> BTreeSet<String> {
    granted_by(POLICY)
}

fn vswitch() -> VSwitchId {
    VSwitchId::new("vsw-bp1labh").unwrap()
}

/// A region that grants `actions`, as the control plane sees it, and an instance in it.
pub(crate) async fn region(actions: BTreeSet<String>) -> (Cloud, InstanceId) {
    let mut config = RegionConfig::lab(1);
    config.keys[0].grant = Grant::Only(actions);
    let timing = &mut config.timing;
    for time in [
        &mut timing.attach,
        &mut timing.detach,
        &mut timing.delete,
        &mut timing.route,
    ] {
        *time = Duration::ZERO;
    }
    let key = config.keys[0].clone();
    let vpc = config.vpc.clone();
    let shared = http::Shared::new(Region::new(config).unwrap());
    let spec = InstanceSpec {
        id: None,
        name: "node".into(),
        instance_type: "ecs.g7.xlarge".into(),
        vswitch: vswitch(),
        security_groups: Vec::new(),
        ram_role: None,
    };
    let instance: Instance = shared
        .with(|now, region| region.run_instance(now, spec))
        .unwrap();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(axum::serve(listener, http::openapi_router(shared.clone())).into_future());
    tokio::spawn(http::drive(shared, |_| std::future::ready(())));
    let endpoint = Endpoint::parse(&base, Scheme::Https).unwrap();
    let config = Config {
        region: RegionId::new("cn-hangzhou").unwrap(),
        ecs: endpoint.clone(),
        vpc: endpoint,
        timeout: CALL_BUDGET,
    };
    let keys = Keys::permanent(&key.id, &key.secret);
    let cloud = Cloud {
        client: Client::new(config, Credentials::new(vec![Source::Static(keys)])).unwrap(),
        vpc,
        tags: [("ack.aliyun.com".to_owned(), "c-lab".to_owned())].into(),
        metrics: Arc::new(Metrics::new()),
        brake: Brake::default(),
        lead: Lead::new(false),
    };
    (cloud, instance.id)
}

/// The life of one pod's ENI, and the looks beside it, up to the first refusal.
async fn life(cloud: &Cloud, instance: &InstanceId) -> Result<(), Fault> {
    let found = cloud.vswitches(vec![vswitch()]).await?;
    assert_eq!(found.len(), 1);
    let create = Call::Create(Box::new(CreateEni {
        interface: InterfaceName::new("eth0").unwrap(),
        attempt: 0,
        token: ClientToken::new("pod-1").unwrap(),
        vswitch: vswitch(),
        addresses: DualStack::default(),
        security_groups: vec![SecurityGroupId::new("sg-bp1lab").unwrap()],
        edition: None,
        resource_group: None,
        delete_on_release: true,
    }));
    let Answer::Created(made) = cloud.call(create.clone()).await? else {
        panic!("an ENI is made");
    };
    assert_eq!(cloud.call(create).await?, Answer::Created(made.clone()));
    let eni = made.eni.id;
    let until = async |wanted: EniStatus| loop {
        match cloud.call(Call::Look(eni.clone())).await? {
            Answer::Seen(seen) if seen.status == wanted => return Ok(()),
            _ => tokio::time::sleep(Duration::from_millis(5)).await,
        }
    };
    until(EniStatus::Available).await?;
    cloud
        .call(Call::Attach {
            eni: eni.clone(),
            instance: instance.clone(),
            trunk: None,
        })
        .await?;
    until(EniStatus::InUse).await?;
    let listed = cloud.list().await?;
    let at = listed.iter().map(|one| (&one.eni.id, &one.eni.instance));
    assert_eq!(at.collect::<Vec<_>>(), [(&eni, &Some(instance.clone()))]);
    cloud
        .call(Call::Detach {
            eni: eni.clone(),
            instance: instance.clone(),
            trunk: None,
        })
        .await?;
    until(EniStatus::Available).await?;
    assert_eq!(cloud.list().await?.len(), 1);
    cloud.call(Call::Delete(eni.clone())).await?;
    assert_eq!(cloud.list().await?.len(), 0);
    Ok(())
}

#[tokio::test]
async fn who_does_not_lead_takes_nothing_away() {
    let (mut cloud, instance) = region(granted()).await;
    cloud.lead = Lead::new(true);
    let fault = life(&cloud, &instance).await.unwrap_err();
    assert!(fault.text.contains("may not lead"), "{}", fault.text);
    let listed = cloud.list().await.unwrap();
    let stays = listed.iter().map(|one| one.eni.status);
    assert_eq!(stays.collect::<Vec<_>>(), [EniStatus::InUse]);
}

#[tokio::test]
async fn the_policy_is_enough_and_each_action_is_needed_and_named() {
    let (cloud, instance) = region(granted()).await;
    life(&cloud, &instance).await.unwrap();
    for action in granted() {
        let mut rest = granted();
        rest.remove(&action);
        let (cloud, instance) = region(rest).await;
        let fault = life(&cloud, &instance).await.unwrap_err();
        assert_eq!(fault.class, FaultClass::Denied, "{action}: {fault:?}");
        let (_, name) = action.split_once(':').unwrap();
        assert!(fault.text.contains(name), "{action}: {}", fault.text);
        println!("{action}: {}", fault.text);
    }
}

//! The definitions of our resources in the cluster: made, brought up to date, and waited for.

use std::time::Duration;

use crd::definition::{Installation, definitions, installation};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{Api, Client, ResourceExt, api::PostParams};

use crate::cause::of_kube;

/// Between two tries: the API server may be starting too.
const PERIOD: Duration = Duration::from_secs(1);

/// Installs what is missing or older, and returns when all of it is served.
pub(crate) async fn install(client: &Client) {
    let api: Api<CustomResourceDefinition> = Api::all(client.clone());
    for ours in definitions() {
        let name = ours.name_any();
        let mut complaint = String::new();
        loop {
            match step(&api, &name, &ours).await {
                Ok(true) => break,
                Ok(false) => {}
                Err(error) => {
                    let text = of_kube(&error);
                    if text != complaint {
                        tracing::warn!(error = text, name, "installing a resource definition");
                        complaint = text;
                    }
                }
            }
            tokio::time::sleep(PERIOD).await;
        }
    }
}

/// Brings one definition a step further; whether it is served.
async fn step(
    api: &Api<CustomResourceDefinition>,
    name: &str,
    ours: &CustomResourceDefinition,
) -> Result<bool, kube::Error> {
    let found = api.get_opt(name).await?;
    let options = PostParams::default();
    match installation(ours, found.as_ref()) {
        Installation::Create => {
            api.create(&options, ours).await?;
            tracing::info!(name, "resource definition made");
            Ok(false)
        }
        Installation::Replace(next) => {
            api.replace(name, &options, &next).await?;
            tracing::info!(name, "resource definition brought up to date");
            Ok(false)
        }
        Installation::Keep => Ok(found.as_ref().is_some_and(is_served)),
    }
}

fn is_served(definition: &CustomResourceDefinition) -> bool {
    let status = definition.status.as_ref();
    let conditions = status.and_then(|status| status.conditions.as_ref());
    let mut conditions = conditions.into_iter().flatten();
    conditions.any(|one| one.type_ == "Established" && one.status == "True")
}

//! Sends events to the API server, of whichever version it is.

use k8s_openapi::{
    api::{core::v1::ObjectReference, events::v1::Event as Object},
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
    jiff::Timestamp,
};
use kube::{
    Api, Client,
    api::PostParams,
    runtime::events::{Event, EventType, Recorder, Reporter},
};

/// Who says it.
const CONTROLLER: &str = "terwayd";

/// Where API servers want events about objects without a namespace if not in `default`.
const SYSTEM: &str = "kube-system";

/// What the API server answers to an object that it calls invalid.
const INVALID: u16 = 422;

/// Sends events in the name of one node's agent.
pub(crate) struct Herald {
    client: Client,
    node: String,
    recorder: Recorder,
}

impl Herald {
    pub(crate) fn new(client: Client, node: &str) -> Self {
        let reporter = Reporter {
            controller: CONTROLLER.into(),
            instance: Some(node.to_owned()),
        };
        Self {
            recorder: Recorder::new(client.clone(), reporter),
            client,
            node: node.to_owned(),
        }
    }

    /// Sends `event` about `about`. Kubernetes 1.20 refuses what is about a node unless it is in
    /// kube-system (ValidateEvent, pkg/apis/core/validation/events.go); later ones take both.
    pub(crate) async fn send(
        &self,
        event: &Event,
        about: &ObjectReference,
    ) -> Result<(), kube::Error> {
        match self.recorder.publish(event, about).await {
            Err(kube::Error::Api(status))
                if status.code == INVALID && about.namespace.is_none() =>
            {
                let events: Api<Object> = Api::namespaced(self.client.clone(), SYSTEM);
                let object = self.object(event, about, Timestamp::now());
                events.create(&PostParams::default(), &object).await?;
                Ok(())
            }
            other => other,
        }
    }

    fn object(&self, event: &Event, about: &ObjectReference, now: Timestamp) -> Object {
        let kind = match event.type_ {
            EventType::Normal => "Normal",
            EventType::Warning => "Warning",
        };
        Object {
            metadata: ObjectMeta {
                name: Some(format!("{}.{:x}", self.node, now.as_nanosecond())),
                namespace: Some(SYSTEM.into()),
                ..Default::default()
            },
            action: Some(event.action.clone()),
            event_time: Some(MicroTime(now)),
            note: event.note.clone(),
            reason: Some(event.reason.clone()),
            regarding: Some(about.clone()),
            reporting_controller: Some(CONTROLLER.into()),
            reporting_instance: Some(self.node.clone()),
            type_: Some(kind.into()),
            ..Default::default()
        }
    }
}

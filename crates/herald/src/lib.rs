//! Sends events to the API server, of whichever version it is.
//!
//! Must not know: what is told, when, or how often.

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

/// Where API servers want events about objects without a namespace if not in `default`.
const SYSTEM: &str = "kube-system";

/// What the API server answers to an object that it calls invalid.
const INVALID: u16 = 422;

/// Sends events in the name of one instance of one controller.
pub struct Herald {
    client: Client,
    reporter: Reporter,
    recorder: Recorder,
}

impl Herald {
    /// Events of `controller` are told apart by its `instance`: a node, a replica.
    pub fn new(client: Client, controller: &str, instance: &str) -> Self {
        let reporter = Reporter {
            controller: controller.to_owned(),
            instance: Some(instance.to_owned()),
        };
        Self {
            recorder: Recorder::new(client.clone(), reporter.clone()),
            client,
            reporter,
        }
    }

    /// Sends `event` about `about`. Kubernetes 1.20 refuses what is about an object without a namespace
    /// (a node, a PodNetworking) unless it is in kube-system (ValidateEvent, pkg/apis/core/validation/events.go); later ones take both.
    ///
    /// # Errors
    /// When the API server does not answer, or refuses it.
    pub async fn send(&self, event: &Event, about: &ObjectReference) -> Result<(), kube::Error> {
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
                name: Some(format!("{}.{:x}", self.instance(), now.as_nanosecond())),
                namespace: Some(SYSTEM.into()),
                ..Default::default()
            },
            action: Some(event.action.clone()),
            event_time: Some(MicroTime(now)),
            note: event.note.clone(),
            reason: Some(event.reason.clone()),
            regarding: Some(about.clone()),
            reporting_controller: Some(self.reporter.controller.clone()),
            reporting_instance: self.reporter.instance.clone(),
            type_: Some(kind.into()),
            ..Default::default()
        }
    }

    fn instance(&self) -> &str {
        self.reporter.instance.as_deref().unwrap_or_default()
    }
}

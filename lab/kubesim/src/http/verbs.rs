//! One request about objects: read it, call the cluster, write the answer.

use std::{collections::BTreeMap, sync::Arc};

use axum::{
    body::{Body, to_bytes},
    extract::Query,
    http::{
        Method, StatusCode,
        header::{CONTENT_TYPE, HeaderMap},
        request::Parts,
    },
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};

use super::{
    Api, BODY_LIMIT,
    accept::{self, Form},
    admit::{self, Admitted},
    path::Place,
    protobuf, stream,
};
use crate::{
    ApiError, Cluster, DeleteOptions, Deleted, ListQuery, Part, Patch, Selector, Target, UnixTime,
    Written, object,
    table::{self, RowObject},
};

/// Query parameters; of a repeated one the last counts.
pub(super) type Parameters = BTreeMap<String, String>;

/// A request about objects, parsed as far as its path, query and `Accept`.
pub(super) struct Call {
    pub(super) place: Place,
    pub(super) parameters: Parameters,
    pub(super) form: Form,
    pub(super) row_object: RowObject,
}

impl Call {
    fn parse(api: &Api, parts: &Parts) -> Result<Self, ApiError> {
        let place = api.read(|cluster| Place::parse(cluster, parts.uri.path()))?;
        let query = Query::<Vec<(String, String)>>::try_from_uri(&parts.uri)
            .map_err(|error| ApiError::bad_request(error.to_string()))?;
        let parameters: Parameters = query.0.into_iter().collect();
        let row_object = match parameters.get("includeObject").map_or("", String::as_str) {
            "None" => RowObject::None,
            "Object" => RowObject::Object,
            _ => RowObject::Metadata,
        };
        Ok(Self {
            place,
            parameters,
            form: accept::form(&parts.headers)?,
            row_object,
        })
    }

    pub(super) fn parameter(&self, name: &str) -> &str {
        self.parameters.get(name).map_or("", String::as_str)
    }

    pub(super) fn flag(&self, name: &str) -> bool {
        matches!(self.parameter(name), "true" | "1")
    }

    pub(super) fn selector(&self) -> Result<Selector, ApiError> {
        let (labels, fields) = (
            self.parameter("labelSelector"),
            self.parameter("fieldSelector"),
        );
        let named = self
            .place
            .name
            .as_ref()
            .map(|name| format!("metadata.name={name},{fields}"));
        Selector::parse(
            self.place.resource,
            labels,
            named.as_deref().unwrap_or(fields),
        )
    }

    pub(super) fn number(&self, name: &str) -> Result<Option<u64>, ApiError> {
        match self.parameter(name) {
            "" => Ok(None),
            text => text.parse().map(Some).map_err(|_| {
                ApiError::bad_request(format!(
                    "invalid value for {name}: {text:?} is not a number"
                ))
            }),
        }
    }

    fn part(&self) -> Result<Part, ApiError> {
        match self.place.subresource.as_deref() {
            None => Ok(Part::Whole),
            Some("status") if self.place.resource.status => Ok(Part::Status),
            _ => Err(ApiError::path_not_found()),
        }
    }

    /// Runs a write, on a copy when the client asked for a dry run.
    pub(super) fn write<T>(
        &self,
        api: &Api,
        change: impl FnOnce(&mut Cluster, UnixTime) -> Result<T, ApiError>,
    ) -> Result<T, ApiError> {
        match self.parameter("dryRun") {
            "" => api.write(change),
            "All" => change(&mut api.read(Cluster::clone), api.now()),
            other => Err(ApiError::bad_request(format!("invalid dryRun: {other:?}"))),
        }
    }
}

pub(super) async fn answer(api: &Api, parts: &Parts, body: Body) -> Result<Response, ApiError> {
    let call = Call::parse(api, parts)?;
    let bytes = to_bytes(body, BODY_LIMIT)
        .await
        .map_err(|_| ApiError::too_large(BODY_LIMIT))?;
    if parts.method == Method::GET && call.flag("watch") && call.part()? == Part::Whole {
        return stream::watch(api, call);
    }
    if call.place.name.is_some() {
        return one(api, &call, parts, &bytes).await;
    }
    match parts.method {
        Method::GET => list(api, &call),
        Method::POST => create(api, &call, &parts.headers, &bytes).await,
        Method::DELETE => delete_all(api, &call, &bytes),
        _ => Err(ApiError::method_not_allowed()),
    }
}

/// Verbs on one named object.
async fn one(api: &Api, call: &Call, parts: &Parts, bytes: &[u8]) -> Result<Response, ApiError> {
    let Place {
        resource,
        namespace,
        name,
        subresource,
    } = &call.place;
    let name = name.as_deref().unwrap_or_default();
    let target = Target {
        resource,
        namespace,
        name,
    };
    if subresource.as_deref() == Some("binding") && resource.kind == "Pod" {
        if parts.method != Method::POST {
            return Err(ApiError::method_not_allowed());
        }
        let binding = parse_json(&parts.headers, bytes)?;
        call.write(api, |cluster, now| {
            cluster.bind(now, namespace, name, &binding)
        })?;
        let done = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201,
        });
        return Ok(json_response(201, &done));
    }
    let part = call.part()?;
    match parts.method {
        Method::GET => {
            let object = api.read(|cluster| cluster.get(target))?;
            Ok(render(api, call, 200, &object))
        }
        Method::PUT => {
            let body = parse_json(&parts.headers, bytes)?;
            let update =
                |cluster: &mut Cluster, now| cluster.update(now, target, part, body.clone());
            let admitted = admit::write(api, call, part, update).await?;
            Ok(render_written(api, call, admitted))
        }
        Method::PATCH => {
            let patch = parse_patch(call, &parts.headers, bytes)?;
            let change = |cluster: &mut Cluster, now| cluster.patch(now, target, part, &patch);
            let admitted = admit::write(api, call, part, change).await?;
            Ok(render_written(api, call, admitted))
        }
        Method::DELETE if part == Part::Whole => delete(api, call, target, bytes),
        _ => Err(ApiError::method_not_allowed()),
    }
}

fn list(api: &Api, call: &Call) -> Result<Response, ApiError> {
    let Place {
        resource,
        namespace,
        ..
    } = &call.place;
    let version = call.number("resourceVersion")?;
    let query = ListQuery {
        selector: call.selector()?,
        limit: usize::try_from(call.number("limit")?.unwrap_or_default()).unwrap_or(usize::MAX),
        continue_token: call.parameter("continue").to_owned(),
        // Anything at least this new is what the latest state is.
        at: version.filter(|_| call.parameter("resourceVersionMatch") == "Exact"),
    };
    let listing = api.read(|cluster| {
        if let Some(asked) = version.filter(|&asked| asked > cluster.revision()) {
            return Err(ApiError::future_version(asked, cluster.revision()));
        }
        cluster.list(resource, namespace, &query)
    })?;
    let objects = listing.items.iter().map(Arc::as_ref);
    let body = match call.form {
        Form::Object => listing.to_object(resource),
        Form::Table(version) => {
            let metadata = listing.metadata();
            table::table(
                api.now(),
                resource,
                version,
                metadata,
                true,
                call.row_object,
                objects,
            )
        }
        Form::Metadata(version) => json!({
            "kind": "PartialObjectMetadataList", "apiVersion": format!("meta.k8s.io/{version}"),
            "metadata": listing.metadata(),
            "items": objects.map(|o| table::partial(version, o)).collect::<Vec<_>>(),
        }),
    };
    Ok(json_response(200, &body))
}

async fn create(
    api: &Api,
    call: &Call,
    headers: &HeaderMap,
    bytes: &[u8],
) -> Result<Response, ApiError> {
    let Place {
        resource,
        namespace,
        ..
    } = &call.place;
    if resource.namespaced && namespace.is_empty() {
        return Err(ApiError::method_not_allowed());
    }
    let body = parse_json(headers, bytes)?;
    let make = |cluster: &mut Cluster, now| {
        let made = cluster.create(now, resource, namespace, body.clone());
        made.map(Written::Created)
    };
    let admitted = admit::write(api, call, Part::Whole, make).await?;
    Ok(render_written(api, call, admitted))
}

fn delete(api: &Api, call: &Call, target: Target<'_>, bytes: &[u8]) -> Result<Response, ApiError> {
    let options = delete_options(call, bytes)?;
    let deleted = call.write(api, |cluster, now| cluster.delete(now, target, &options))?;
    if matches!(deleted, Deleted::Pending(_)) || target.resource.returns_deleted {
        return Ok(render(api, call, 200, deleted.object()));
    }
    let mut details = json!({
        "name": target.name, "kind": target.resource.plural,
        "uid": object::text(deleted.object(), "/metadata/uid"),
    });
    if !target.resource.group.is_empty() {
        details["group"] = target.resource.group.into();
    }
    let done = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success",
        "details": details,
    });
    Ok(json_response(200, &done))
}

fn delete_all(api: &Api, call: &Call, bytes: &[u8]) -> Result<Response, ApiError> {
    let Place {
        resource,
        namespace,
        ..
    } = &call.place;
    if resource.kind == "Namespace" || (resource.namespaced && namespace.is_empty()) {
        return Err(ApiError::method_not_allowed());
    }
    let (selector, options) = (call.selector()?, delete_options(call, bytes)?);
    let (items, revision) = call.write(api, |cluster, now| {
        let gone = cluster.delete_collection(now, resource, namespace, &selector, &options)?;
        Ok((gone, cluster.revision()))
    })?;
    let listing = crate::Listing {
        items,
        revision,
        continue_token: None,
        remaining: None,
    };
    Ok(json_response(200, &listing.to_object(resource)))
}

/// Options come in the body; without one, in the query.
fn delete_options(call: &Call, bytes: &[u8]) -> Result<DeleteOptions, ApiError> {
    if bytes.is_empty() {
        let grace = call.number("gracePeriodSeconds")?;
        let grace = grace.map(|seconds| i64::try_from(seconds).unwrap_or(i64::MAX));
        return Ok(DeleteOptions {
            grace,
            ..DeleteOptions::default()
        });
    }
    DeleteOptions::parse(&from_slice(bytes)?)
}

fn from_slice(bytes: &[u8]) -> Result<Value, ApiError> {
    serde_json::from_slice(bytes).map_err(|error| {
        ApiError::bad_request(format!(
            "couldn't decode the body of the request as JSON: {error}"
        ))
    })
}

fn media_type(headers: &HeaderMap) -> &str {
    let header = headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    header
        .and_then(|text| text.split(';').next())
        .unwrap_or_default()
        .trim()
}

fn parse_json(headers: &HeaderMap, bytes: &[u8]) -> Result<Value, ApiError> {
    match media_type(headers) {
        "" | "application/json" | "*/*" => from_slice(bytes),
        "application/vnd.kubernetes.protobuf" => {
            protobuf::read(bytes).ok_or_else(ApiError::unsupported_media_type)
        }
        _ => Err(ApiError::unsupported_media_type()),
    }
}

fn parse_patch(call: &Call, headers: &HeaderMap, bytes: &[u8]) -> Result<Patch, ApiError> {
    Ok(match media_type(headers) {
        "application/json-patch+json" => Patch::Json(from_slice(bytes)?),
        "application/merge-patch+json" => Patch::Merge(from_slice(bytes)?),
        // It needs the tags of a type.
        "application/strategic-merge-patch+json" if call.place.resource.custom.is_some() => {
            return Err(ApiError::unsupported_patch());
        }
        "application/strategic-merge-patch+json" => Patch::Strategic(from_slice(bytes)?),
        "application/apply-patch+yaml" => Patch::Apply {
            manager: call.parameter("fieldManager").to_owned(),
            force: call.flag("force"),
            object: from_slice(bytes)?,
        },
        _ => return Err(ApiError::unsupported_patch()),
    })
}

fn render_written(api: &Api, call: &Call, (written, warnings): Admitted) -> Response {
    let code = if matches!(written, Written::Created(_)) {
        201
    } else {
        200
    };
    admit::warned(render(api, call, code, &written.into_object()), warnings)
}

fn render(api: &Api, call: &Call, code: u16, object: &Value) -> Response {
    let body = shown(api.now(), call, true, object);
    json_response(code, body.as_ref().unwrap_or(object))
}

/// The representation of one object, where it is not the object itself.
pub(super) fn shown(now: UnixTime, call: &Call, headers: bool, object: &Value) -> Option<Value> {
    match call.form {
        Form::Object => None,
        Form::Table(version) => {
            let metadata = json!({ "resourceVersion": object["metadata"]["resourceVersion"] });
            let one = std::iter::once(object);
            let row_object = call.row_object;
            let resource = call.place.resource;
            Some(table::table(
                now, resource, version, metadata, headers, row_object, one,
            ))
        }
        Form::Metadata(version) => Some(table::partial(version, object)),
    }
}

pub(super) fn json_response(code: u16, body: &Value) -> Response {
    let code = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    (code, [(CONTENT_TYPE, "application/json")], body.to_string()).into_response()
}

pub(super) fn refused(refusal: &ApiError) -> Response {
    json_response(refusal.code(), &refusal.status())
}

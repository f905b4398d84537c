//! The calls of Flight, below Flight SQL: each is counted, and what [`FlightSql`] leaves open is answered or refused.

use arrow_flight::flight_service_server::FlightService;
use arrow_flight::{
    Action, ActionType, Criteria, Empty, FlightData, FlightDescriptor, FlightInfo, HandshakeRequest,
    HandshakeResponse, PollInfo, SchemaResult, Ticket,
};
use tonic::{Request, Response, Status, Streaming};

use super::messages::{Boxed, READ_ONLY, Result};
use super::metrics::Counted;
use super::service::FlightSql;

/// The service.
pub(super) struct Calls(FlightSql);

impl Calls {
    pub(super) fn new(inner: FlightSql) -> Self {
        Self(inner)
    }
}

#[tonic::async_trait]
impl FlightService for Calls {
    type HandshakeStream = Boxed<HandshakeResponse>;
    type ListFlightsStream = Boxed<FlightInfo>;
    type DoGetStream = Counted;
    type DoPutStream = <FlightSql as FlightService>::DoPutStream;
    type DoActionStream = <FlightSql as FlightService>::DoActionStream;
    type ListActionsStream = Boxed<ActionType>;
    type DoExchangeStream = Boxed<FlightData>;

    async fn handshake(
        &self,
        request: Request<Streaming<HandshakeRequest>>,
    ) -> Result<Response<Self::HandshakeStream>> {
        let metrics = &self.0.metrics;
        metrics.counted("handshake", self.0.handshake(request).await)
    }

    async fn list_flights(&self, _request: Request<Criteria>) -> Result<Response<Self::ListFlightsStream>> {
        let none = Status::unimplemented("statements are not listed: ask with Flight SQL");
        self.0.metrics.counted("list_flights", Err(none))
    }

    async fn get_flight_info(&self, request: Request<FlightDescriptor>) -> Result<Response<FlightInfo>> {
        let metrics = &self.0.metrics;
        metrics.counted("get_flight_info", self.0.get_flight_info(request).await)
    }

    async fn poll_flight_info(&self, _request: Request<FlightDescriptor>) -> Result<Response<PollInfo>> {
        let none = Status::unimplemented("a statement runs when its rows are asked for: use GetFlightInfo");
        self.0.metrics.counted("poll_flight_info", Err(none))
    }

    async fn get_schema(&self, request: Request<FlightDescriptor>) -> Result<Response<SchemaResult>> {
        let info = self.0.get_flight_info(request).await;
        let schema = info.map(|info| {
            Response::new(SchemaResult {
                schema: info.into_inner().schema,
            })
        });
        self.0.metrics.counted("get_schema", schema)
    }

    async fn do_get(&self, request: Request<Ticket>) -> Result<Response<Self::DoGetStream>> {
        let metrics = &self.0.metrics;
        match self.0.do_get(request).await {
            Ok(response) => {
                let serve = self.0.engines.api().metrics.clone();
                Ok(response.map(|messages| Counted::new(messages, metrics.clone(), serve)))
            }
            Err(status) => metrics.counted("do_get", Err(status)),
        }
    }

    async fn do_put(&self, request: Request<Streaming<FlightData>>) -> Result<Response<Self::DoPutStream>> {
        let metrics = &self.0.metrics;
        metrics.counted("do_put", self.0.do_put(request).await)
    }

    async fn do_action(&self, request: Request<Action>) -> Result<Response<Self::DoActionStream>> {
        let metrics = &self.0.metrics;
        metrics.counted("do_action", self.0.do_action(request).await)
    }

    async fn list_actions(&self, _request: Request<Empty>) -> Result<Response<Self::ListActionsStream>> {
        let actions = [
            ("CreatePreparedStatement", "Prepares a statement that only reads."),
            ("ClosePreparedStatement", "Gives a prepared statement up."),
        ];
        let actions = actions.map(|(name, description)| {
            Ok(ActionType {
                r#type: name.to_owned(),
                description: description.to_owned(),
            })
        });
        let actions = Box::pin(futures::stream::iter(actions)) as Boxed<_>;
        self.0.metrics.counted("list_actions", Ok(Response::new(actions)))
    }

    async fn do_exchange(
        &self,
        _request: Request<Streaming<FlightData>>,
    ) -> Result<Response<Self::DoExchangeStream>> {
        self.0
            .metrics
            .counted("do_exchange", Err(Status::unimplemented(READ_ONLY)))
    }
}

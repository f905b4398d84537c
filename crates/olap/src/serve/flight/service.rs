//! What Flight SQL names, as calls of [`Engines`] and of the catalogue.

use std::sync::Arc;
use std::time::Instant;

use arrow::datatypes::Schema;
use arrow_flight::flight_service_server::FlightService;
use arrow_flight::sql::metadata::{SqlInfoData, XdbcTypeInfoData};
use arrow_flight::sql::server::{DoPutError, FlightSqlService, PeekableFlightDataStream};
use arrow_flight::sql::{
    ActionClosePreparedStatementRequest, ActionCreatePreparedStatementRequest,
    ActionCreatePreparedStatementResult, Any, CommandGetCatalogs, CommandGetCrossReference,
    CommandGetDbSchemas, CommandGetExportedKeys, CommandGetImportedKeys, CommandGetPrimaryKeys,
    CommandGetSqlInfo, CommandGetTableTypes, CommandGetTables, CommandGetXdbcTypeInfo,
    CommandPreparedStatementQuery, CommandPreparedStatementUpdate, CommandStatementIngest,
    CommandStatementQuery, CommandStatementUpdate, DoPutPreparedStatementResult, ProstMessageExt, SqlInfo,
    TicketStatementQuery,
};
use arrow_flight::{Action, FlightDescriptor, FlightInfo, HandshakeRequest, HandshakeResponse, Ticket};
use loginlake_query::{Script, Values};
use tonic::metadata::{MetadataMap, MetadataValue};
use tonic::{Request, Response, Status, Streaming};

use super::messages::{
    ANSWER, AUTHORIZATION, Boxed, MAX_FACTS, READ_ONLY, Result, constant, info, ipc_schema, is_fresh,
    no_rows, no_transaction, one_batch, parse, parse_bytes, values_of,
};
use super::metrics::FlightMetrics;
use super::statements::Statements;
use super::stream::{Engines, Messages};
use super::{access, catalog, status};
use crate::serve::Api;

/// What calls share.
pub(super) struct FlightSql {
    pub(super) engines: Engines,
    statements: Statements,
    server: arrow_flight::error::Result<SqlInfoData>,
    types: arrow_flight::error::Result<XdbcTypeInfoData>,
    pub(super) metrics: FlightMetrics,
}

impl FlightSql {
    pub(super) fn new(api: Arc<Api>, metrics: FlightMetrics) -> Self {
        Self {
            engines: Engines::new(api),
            statements: Statements::new(metrics.prepared.clone()),
            server: catalog::server(),
            types: catalog::types(),
            metrics,
        }
    }

    fn server(&self) -> Result<&SqlInfoData> {
        constant(&self.server)
    }

    fn types(&self) -> Result<&XdbcTypeInfoData> {
        constant(&self.types)
    }

    async fn answer(
        &self,
        script: &Script,
        values: &Values,
        metadata: &MetadataMap,
    ) -> Result<Response<Messages>> {
        let (messages, receipt) = self.engines.run(script, values, is_fresh(metadata)?).await?;
        let mut response = Response::new(messages);
        if let Ok(receipt) = MetadataValue::try_from(receipt) {
            response.metadata_mut().insert(ANSWER, receipt);
        }
        Ok(response)
    }
}

#[tonic::async_trait]
impl FlightSqlService for FlightSql {
    type FlightService = Self;

    async fn do_handshake(
        &self,
        request: Request<Streaming<HandshakeRequest>>,
    ) -> Result<Response<Boxed<HandshakeResponse>>> {
        // It has passed already: a user's password is told as what it is, so that the next calls need no user.
        let reply = futures::stream::iter([Ok(HandshakeResponse::default())]);
        let mut response = Response::new(Box::pin(reply) as Boxed<_>);
        if let Some(bearer) = access::bearer(request.metadata()).and_then(|text| text.try_into().ok()) {
            response.metadata_mut().insert(AUTHORIZATION, bearer);
        }
        Ok(response)
    }

    async fn get_flight_info_statement(
        &self,
        query: CommandStatementQuery,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>> {
        no_transaction(query.transaction_id.as_deref())?;
        let script = parse(&query.query)?;
        if let Some(parameter) = script.parameters().first() {
            let message = format!(
                "the statement takes ${}: prepare it, and give it values",
                parameter.name
            );
            return Err(Status::invalid_argument(message));
        }
        let described = self.engines.describe(&script, &Values::default()).await?;
        let ticket = TicketStatementQuery {
            statement_handle: query.query.into_bytes().into(),
        };
        info(&described.schema, &ticket.as_any(), request)
    }

    async fn get_flight_info_prepared_statement(
        &self,
        query: CommandPreparedStatementQuery,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>> {
        let (script, values) = self
            .statements
            .get(&query.prepared_statement_handle, Instant::now())?;
        let described = self.engines.describe(&script, &values).await?;
        info(&described.schema, &query.as_any(), request)
    }

    async fn get_flight_info_catalogs(
        &self,
        query: CommandGetCatalogs,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>> {
        info(&catalog::catalogs(query)?.schema(), &query.as_any(), request)
    }

    async fn get_flight_info_schemas(
        &self,
        query: CommandGetDbSchemas,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>> {
        let ticket = query.as_any();
        info(&catalog::schemas(query)?.schema(), &ticket, request)
    }

    async fn get_flight_info_tables(
        &self,
        query: CommandGetTables,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>> {
        let ticket = query.as_any();
        info(&query.into_builder().schema(), &ticket, request)
    }

    async fn get_flight_info_table_types(
        &self,
        query: CommandGetTableTypes,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>> {
        info(&catalog::table_types(query)?.schema(), &query.as_any(), request)
    }

    async fn get_flight_info_sql_info(
        &self,
        query: CommandGetSqlInfo,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>> {
        info(&self.server()?.schema(), &query.as_any(), request)
    }

    async fn get_flight_info_xdbc_type_info(
        &self,
        query: CommandGetXdbcTypeInfo,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>> {
        info(&self.types()?.schema(), &query.as_any(), request)
    }

    async fn get_flight_info_primary_keys(
        &self,
        query: CommandGetPrimaryKeys,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>> {
        info(&catalog::primary_keys(), &query.as_any(), request)
    }

    async fn get_flight_info_exported_keys(
        &self,
        query: CommandGetExportedKeys,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>> {
        info(&catalog::foreign_keys(), &query.as_any(), request)
    }

    async fn get_flight_info_imported_keys(
        &self,
        query: CommandGetImportedKeys,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>> {
        info(&catalog::foreign_keys(), &query.as_any(), request)
    }

    async fn get_flight_info_cross_reference(
        &self,
        query: CommandGetCrossReference,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>> {
        info(&catalog::foreign_keys(), &query.as_any(), request)
    }

    async fn do_get_statement(
        &self,
        ticket: TicketStatementQuery,
        request: Request<Ticket>,
    ) -> Result<Response<Messages>> {
        let script = parse_bytes(&ticket.statement_handle)?;
        self.answer(&script, &Values::default(), request.metadata()).await
    }

    async fn do_get_prepared_statement(
        &self,
        query: CommandPreparedStatementQuery,
        request: Request<Ticket>,
    ) -> Result<Response<Messages>> {
        let (script, values) = self
            .statements
            .get(&query.prepared_statement_handle, Instant::now())?;
        self.answer(&script, &values, request.metadata()).await
    }

    async fn do_get_catalogs(
        &self,
        query: CommandGetCatalogs,
        _request: Request<Ticket>,
    ) -> Result<Response<Messages>> {
        Ok(one_batch(catalog::catalogs(query)?))
    }

    async fn do_get_schemas(
        &self,
        query: CommandGetDbSchemas,
        _request: Request<Ticket>,
    ) -> Result<Response<Messages>> {
        Ok(one_batch(catalog::schemas(query)?))
    }

    async fn do_get_tables(
        &self,
        query: CommandGetTables,
        _request: Request<Ticket>,
    ) -> Result<Response<Messages>> {
        Ok(one_batch(catalog::tables(&self.engines, query).await?))
    }

    async fn do_get_table_types(
        &self,
        query: CommandGetTableTypes,
        _request: Request<Ticket>,
    ) -> Result<Response<Messages>> {
        Ok(one_batch(catalog::table_types(query)?))
    }

    async fn do_get_sql_info(
        &self,
        query: CommandGetSqlInfo,
        _request: Request<Ticket>,
    ) -> Result<Response<Messages>> {
        if query.info.len() > MAX_FACTS {
            return Err(Status::invalid_argument(format!(
                "more than {MAX_FACTS} facts at once"
            )));
        }
        Ok(one_batch(self.server()?.record_batch(query.info)?))
    }

    async fn do_get_xdbc_type_info(
        &self,
        query: CommandGetXdbcTypeInfo,
        _request: Request<Ticket>,
    ) -> Result<Response<Messages>> {
        Ok(one_batch(self.types()?.record_batch(query.data_type)?))
    }

    async fn do_get_primary_keys(
        &self,
        _query: CommandGetPrimaryKeys,
        _request: Request<Ticket>,
    ) -> Result<Response<Messages>> {
        Ok(no_rows(catalog::primary_keys()))
    }

    async fn do_get_exported_keys(
        &self,
        _query: CommandGetExportedKeys,
        _request: Request<Ticket>,
    ) -> Result<Response<Messages>> {
        Ok(no_rows(catalog::foreign_keys()))
    }

    async fn do_get_imported_keys(
        &self,
        _query: CommandGetImportedKeys,
        _request: Request<Ticket>,
    ) -> Result<Response<Messages>> {
        Ok(no_rows(catalog::foreign_keys()))
    }

    async fn do_get_cross_reference(
        &self,
        _query: CommandGetCrossReference,
        _request: Request<Ticket>,
    ) -> Result<Response<Messages>> {
        Ok(no_rows(catalog::foreign_keys()))
    }

    async fn do_put_error_callback(
        &self,
        _request: Request<PeekableFlightDataStream>,
        error: DoPutError,
    ) -> Result<Response<<Self as FlightService>::DoPutStream>> {
        Err(Status::invalid_argument(error.to_string()))
    }

    async fn do_put_fallback(
        &self,
        _request: Request<PeekableFlightDataStream>,
        _message: Any,
    ) -> Result<Response<<Self as FlightService>::DoPutStream>> {
        Err(Status::unimplemented(READ_ONLY))
    }

    async fn do_put_statement_update(
        &self,
        _command: CommandStatementUpdate,
        _request: Request<PeekableFlightDataStream>,
    ) -> Result<i64> {
        Err(Status::unimplemented(READ_ONLY))
    }

    async fn do_put_statement_ingest(
        &self,
        _command: CommandStatementIngest,
        _request: Request<PeekableFlightDataStream>,
    ) -> Result<i64> {
        Err(Status::unimplemented(READ_ONLY))
    }

    async fn do_put_prepared_statement_update(
        &self,
        _command: CommandPreparedStatementUpdate,
        _request: Request<PeekableFlightDataStream>,
    ) -> Result<i64> {
        Err(Status::unimplemented(READ_ONLY))
    }

    async fn do_put_prepared_statement_query(
        &self,
        query: CommandPreparedStatementQuery,
        request: Request<PeekableFlightDataStream>,
    ) -> Result<DoPutPreparedStatementResult> {
        let handle = query.prepared_statement_handle;
        let (script, _) = self.statements.get(&handle, Instant::now())?;
        let values = match values_of(request.into_inner()).await? {
            Some(row) => {
                Values::of_row(script.parameters(), &row).map_err(|error| status::of_parameter(&error))?
            }
            None => Values::default(),
        };
        self.statements.bind(&handle, values, Instant::now())?;
        Ok(DoPutPreparedStatementResult {
            prepared_statement_handle: Some(handle),
        })
    }

    async fn do_action_create_prepared_statement(
        &self,
        query: ActionCreatePreparedStatementRequest,
        _request: Request<Action>,
    ) -> Result<ActionCreatePreparedStatementResult> {
        no_transaction(query.transaction_id.as_deref())?;
        let script = parse(&query.query)?;
        let described = self.engines.describe(&script, &Values::default()).await?;
        let handle = self.statements.prepare(script, Instant::now())?;
        Ok(ActionCreatePreparedStatementResult {
            prepared_statement_handle: handle.into(),
            dataset_schema: ipc_schema(&described.schema)?.into(),
            parameter_schema: ipc_schema(&Schema::new(described.parameters))?.into(),
        })
    }

    async fn do_action_close_prepared_statement(
        &self,
        query: ActionClosePreparedStatementRequest,
        _request: Request<Action>,
    ) -> Result<()> {
        self.statements.close(&query.prepared_statement_handle);
        Ok(())
    }

    async fn do_action_fallback(
        &self,
        request: Request<Action>,
    ) -> Result<Response<<Self as FlightService>::DoActionStream>> {
        let name: String = request.get_ref().r#type.chars().take(60).collect();
        Err(Status::unimplemented(format!("there is no action {name:?}")))
    }

    async fn register_sql_info(&self, _id: i32, _result: &SqlInfo) {}
}

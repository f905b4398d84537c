//! A statement for another program: which columns it gives and which parameters it takes, known before it runs, and values that
//! have types of their own.
//!
//! A program that prepares a statement sends the values later, as a row of Arrow columns. They are bound to the plan as every
//! other value is, and brought to the type that the parameter has there, or refused.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, SchemaRef};
use datafusion::common::ScalarValue;
use datafusion::sql::parser::Statement;

use crate::error::QueryError;
use crate::params::bind::Bindings;
use crate::params::{Parameter, ParameterDefault, ParameterError};
use crate::run::{
    Deadline, PlanError, ResultStream, bound_plan, explain_schema, logical_plan, on_large_stack,
};
use crate::script::Script;
use crate::session::QueryEngine;

/// Values of parameters by name, each with its type.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Values(BTreeMap<String, ScalarValue>);

/// What is known of a statement before it runs.
#[derive(Debug, Clone)]
pub struct Described {
    /// The columns that it gives.
    pub schema: SchemaRef,
    /// The parameters that it takes, in their order; text where nothing says the type.
    pub parameters: Vec<Field>,
}

impl Values {
    /// The values of one row: by the names of the columns where each of them is a parameter, else one after the other.
    ///
    /// # Errors
    /// Not one row, or not as many columns as there are parameters.
    pub fn of_row(parameters: &[Parameter], row: &RecordBatch) -> Result<Self, ParameterError> {
        let error = |message: String| ParameterError {
            name: String::new(),
            message,
            excerpt: String::new(),
        };
        if row.num_rows() != 1 {
            return Err(error(format!(
                "values for {} runs at once: give those of one run, as one row",
                row.num_rows()
            )));
        }
        let schema = row.schema();
        let names: Vec<&str> = schema
            .fields()
            .iter()
            .map(|field| field.name().strip_prefix('$').unwrap_or(field.name()))
            .collect();
        let is_known = |name: &&str| parameters.iter().any(|parameter| parameter.name == **name);
        let names: Vec<&str> = if names.iter().all(is_known) {
            names
        } else if names.len() == parameters.len() {
            parameters
                .iter()
                .map(|parameter| parameter.name.as_str())
                .collect()
        } else {
            return Err(error(format!(
                "{} values are given, and the statement takes {} parameters",
                names.len(),
                parameters.len()
            )));
        };
        let mut values = BTreeMap::new();
        for (name, column) in names.iter().zip(row.columns()) {
            let value = ScalarValue::try_from_array(column, 0).map_err(|_| ParameterError {
                name: (*name).to_owned(),
                message: format!(
                    "the parameter {name} cannot have a value of type {}",
                    column.data_type()
                ),
                excerpt: String::new(),
            })?;
            if values.insert((*name).to_owned(), value).is_some() {
                return Err(error(format!("the parameter {name} is given twice")));
            }
        }
        Ok(Self(values))
    }

    /// Whether each parameter has a value, of its own or by default.
    fn check(&self, script: &Script) -> Result<(), ParameterError> {
        let missing = script.parameters().iter().find(|parameter| {
            parameter.default == ParameterDefault::Required && !self.0.contains_key(&parameter.name)
        });
        missing.map_or(Ok(()), |parameter| {
            Err(ParameterError {
                name: parameter.name.clone(),
                message: format!(
                    "{}: the parameter {} has no value",
                    script.source_name(),
                    parameter.name
                ),
                excerpt: String::new(),
            })
        })
    }
}

impl QueryEngine {
    /// Plans one statement of a script, counted from 0, and says what it gives and takes, within the time limit of the engine.
    /// Nothing is run. Values that are known make the types of columns exact that depend on them.
    ///
    /// # Errors
    /// The statement cannot be planned, or a value does not fit.
    ///
    /// # Panics
    /// When the script has no such statement.
    pub async fn describe(
        &self,
        script: &Script,
        statement: usize,
        values: &Values,
    ) -> Result<Described, QueryError> {
        let bindings = Bindings::with_values(script.parameters(), &values.0)?;
        let state = self.context().state();
        let planned = {
            let (script, bindings) = (script.clone(), Arc::clone(&bindings));
            async move {
                let plan = logical_plan(&state, &script, statement, &bindings).await?;
                let types = bindings.types(&plan).map_err(PlanError::Planning)?;
                let plan = bound_plan(&state, plan, &bindings).await?;
                Ok::<_, PlanError>((types, plan.schema()))
            }
        };
        let (types, schema) = Deadline::after(self.options().timeout)
            .wait(on_large_stack(planned))
            .await??
            .map_err(|error| error.in_statement(script, statement))?;
        let is_explain = matches!(script.statements()[statement].statement, Statement::Explain(_));
        let kind = |name: &str| types.get(name).cloned().unwrap_or(DataType::Utf8);
        let fields = script.parameters().iter();
        Ok(Described {
            schema: if is_explain { explain_schema() } else { schema },
            parameters: fields
                .map(|parameter| Field::new(&parameter.name, kind(&parameter.name), true))
                .collect(),
        })
    }

    /// [`Self::stream`] with values that have types of their own.
    ///
    /// # Errors
    /// As there.
    ///
    /// # Panics
    /// When the script has no such statement.
    pub async fn stream_values(
        &self,
        script: &Script,
        statement: usize,
        values: &Values,
    ) -> Result<ResultStream, QueryError> {
        values.check(script)?;
        let bindings = Bindings::with_values(script.parameters(), &values.0)?;
        let deadline = Deadline::after(self.options().timeout);
        self.stream_bound(script, statement, bindings, deadline).await
    }
}

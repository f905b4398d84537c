//! Values into a statement and its plan.
//!
//! A declared parameter is first wrapped in a CAST to its type, so that the planner knows the type wherever the parameter
//! stands. Then every placeholder of the finished plan gets its value, as DataFusion does for a prepared statement.

use std::collections::{BTreeMap, HashMap};
use std::mem;
use std::ops::ControlFlow;
use std::sync::Arc;

use datafusion::arrow::datatypes::DataType;
use datafusion::common::metadata::ScalarAndMetadata;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{ParamValues, ScalarValue};
use datafusion::error::DataFusionError;
use datafusion::logical_expr::{Expr, LogicalPlan};
use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::{
    CastKind, DataType as SqlType, Expr as SqlExpr, TimezoneInfo, Value, visit_expressions_mut,
};

use super::value::inferred_value;
use super::{Parameter, ParameterDefault, ParameterError, ParameterType, Params, shortened};

/// The values of one run, checked against what the text takes.
#[derive(Debug, Default)]
pub(crate) struct Bindings {
    declared: BTreeMap<String, (ParameterType, ScalarValue)>,
    /// As text, until the planner has said their types.
    inferred: BTreeMap<String, String>,
    /// As they were given, until the planner has said their types; NULL without a type where none is given yet.
    typed: BTreeMap<String, ScalarValue>,
}

/// Why values cannot be bound.
pub(crate) enum BindError {
    /// A value does not have the type that the planner inferred.
    Value(ParameterError),
    Planning(DataFusionError),
}

impl From<DataFusionError> for BindError {
    fn from(error: DataFusionError) -> Self {
        Self::Planning(error)
    }
}

impl Bindings {
    /// The values for a text's parameters, defaults where there are none.
    pub(crate) fn new(
        source_name: &str,
        parameters: &[Parameter],
        params: &Params,
    ) -> Result<Arc<Self>, ParameterError> {
        params.check(source_name, parameters)?;
        let mut bindings = Self::default();
        for parameter in parameters {
            let text = match (params.get(&parameter.name), &parameter.default) {
                (Some(text), _) => Some(text),
                (None, ParameterDefault::Value(text)) => Some(text.as_str()),
                (None, ParameterDefault::Null | ParameterDefault::Required) => None,
            };
            let name = parameter.name.clone();
            match (parameter.kind, text) {
                (Some(kind), None) => {
                    bindings.declared.insert(name, (kind, kind.null()));
                }
                (Some(kind), Some(text)) => {
                    let value = kind.value(text).expect("checked, as defaults are when declared");
                    bindings.declared.insert(name, (kind, value));
                }
                (None, text) => {
                    let text = text.expect("checked: without a declaration there is no default");
                    bindings.inferred.insert(name, text.to_owned());
                }
            }
        }
        Ok(Arc::new(bindings))
    }

    /// Values with types of their own. Of a parameter that has none and no default, only its type is known: that is enough for a
    /// plan that is not run.
    pub(crate) fn with_values(
        parameters: &[Parameter],
        values: &BTreeMap<String, ScalarValue>,
    ) -> Result<Arc<Self>, ParameterError> {
        let mut bindings = Self::default();
        for parameter in parameters {
            let name = parameter.name.clone();
            let given = values.get(&name);
            let Some(kind) = parameter.kind else {
                bindings
                    .typed
                    .insert(name, given.cloned().unwrap_or(ScalarValue::Null));
                continue;
            };
            let value = match (given, &parameter.default) {
                (Some(value), _) => cast(&name, value, &kind.null().data_type())?,
                (None, ParameterDefault::Value(text)) => {
                    kind.value(text).expect("checked when it was declared")
                }
                (None, _) => kind.null(),
            };
            bindings.declared.insert(name, (kind, value));
        }
        Ok(Arc::new(bindings))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.declared.is_empty() && self.inferred.is_empty() && self.typed.is_empty()
    }

    /// The type of each parameter of a plan; None where nothing says it.
    pub(crate) fn types(&self, plan: &LogicalPlan) -> Result<BTreeMap<String, DataType>, DataFusionError> {
        let mut types: BTreeMap<String, DataType> = inferred_types(plan)?
            .into_iter()
            .filter_map(|(name, kind)| Some((name, kind?)))
            .collect();
        for (name, (kind, _)) in &self.declared {
            types.insert(name.clone(), kind.null().data_type());
        }
        Ok(types)
    }

    /// Wraps each declared placeholder in a CAST to its type.
    pub(crate) fn declare_types(&self, statement: &mut Statement) {
        match statement {
            Statement::Statement(statement) => {
                let _: ControlFlow<()> = visit_expressions_mut(statement.as_mut(), |expression| {
                    if let Some(kind) = self.declared_type(expression) {
                        let inner = mem::replace(expression, SqlExpr::value(Value::Null));
                        *expression = SqlExpr::Cast {
                            kind: CastKind::Cast,
                            expr: Box::new(inner),
                            data_type: sql_type(kind),
                            array: false,
                            format: None,
                        };
                    }
                    ControlFlow::Continue(())
                });
            }
            Statement::Explain(explain) => self.declare_types(&mut explain.statement),
            Statement::CreateExternalTable(_) | Statement::CopyTo(_) | Statement::Reset(_) => {}
        }
    }

    fn declared_type(&self, expression: &SqlExpr) -> Option<ParameterType> {
        let SqlExpr::Value(value) = expression else {
            return None;
        };
        let Value::Placeholder(text) = &value.value else {
            return None;
        };
        Some(self.declared.get(text.strip_prefix('$')?)?.0)
    }

    /// The plan with a value for each placeholder.
    pub(crate) fn bind(&self, plan: LogicalPlan) -> Result<LogicalPlan, BindError> {
        if self.is_empty() {
            return Ok(plan);
        }
        let mut values: HashMap<String, ScalarAndMetadata> = HashMap::new();
        for (name, (_, value)) in &self.declared {
            values.insert(name.clone(), value.clone().into());
        }
        if !self.inferred.is_empty() || !self.typed.is_empty() {
            let types = inferred_types(&plan)?;
            for (name, value) in &self.typed {
                let kind = types.get(name).cloned().flatten();
                let value = match (value, kind) {
                    (ScalarValue::Null, kind) => ScalarValue::try_from(&kind.unwrap_or(DataType::Utf8))?,
                    (value, Some(kind)) => cast(name, value, &kind).map_err(BindError::Value)?,
                    (value, None) => value.clone(),
                };
                values.insert(name.clone(), value.into());
            }
            for (name, text) in &self.inferred {
                let kind = types.get(name).cloned().flatten().unwrap_or(DataType::Utf8);
                let value = inferred_value(text, &kind).map_err(|expected| {
                    BindError::Value(ParameterError {
                        name: name.clone(),
                        message: format!("the parameter {name} is {expected}, not {:?}", shortened(text)),
                        excerpt: String::new(),
                    })
                })?;
                values.insert(name.clone(), value.into());
            }
        }
        Ok(plan.with_param_values(ParamValues::Map(values))?)
    }
}

/// A value as another type.
fn cast(name: &str, value: &ScalarValue, kind: &DataType) -> Result<ScalarValue, ParameterError> {
    value.cast_to(kind).map_err(|_| ParameterError {
        name: name.to_owned(),
        message: format!(
            "the parameter {name} is of type {kind}, and its value of type {} does not fit",
            value.data_type()
        ),
        excerpt: String::new(),
    })
}

fn sql_type(kind: ParameterType) -> SqlType {
    match kind {
        ParameterType::Date => SqlType::Date,
        ParameterType::Timestamp => SqlType::Timestamp(None, TimezoneInfo::WithTimeZone),
        ParameterType::Text => SqlType::Varchar(None),
        ParameterType::Integer => SqlType::BigInt(None),
        ParameterType::Number => SqlType::Double(datafusion::sql::sqlparser::ast::ExactNumberInfo::None),
        ParameterType::Boolean => SqlType::Boolean,
    }
}

/// The type that the planner inferred for each placeholder of a plan. One name must have one type.
fn inferred_types(plan: &LogicalPlan) -> Result<BTreeMap<String, Option<DataType>>, DataFusionError> {
    let mut types: BTreeMap<String, Option<DataType>> = BTreeMap::new();
    let mut conflict = None;
    plan.apply_with_subqueries(|node| {
        // Rows are counted: the planner infers nothing there.
        let counted = matches!(node, LogicalPlan::Limit(_)).then_some(DataType::Int64);
        node.apply_expressions(|expression| {
            expression.apply(|expression| {
                if let Expr::Placeholder(placeholder) = expression {
                    let name = placeholder.id.trim_start_matches('$').to_owned();
                    let inferred = placeholder.field.as_ref().map(|field| field.data_type().clone());
                    let known = types.entry(name.clone()).or_default();
                    match (&known, inferred.or_else(|| counted.clone())) {
                        (Some(known), Some(found)) if *known != found => {
                            conflict.get_or_insert_with(|| {
                                format!("${name} is {known} at one place and {found} at another: declare its type in the comment \
                                         that the text begins with")
                            });
                        }
                        (None, Some(found)) => *known = Some(found),
                        _ => {}
                    }
                }
                Ok(TreeNodeRecursion::Continue)
            })
        })
    })?;
    match conflict {
        Some(conflict) => Err(DataFusionError::Plan(conflict)),
        None => Ok(types),
    }
}

//! How a plan is sent: Ballista's codec, which knows the operators of its stages. Functions go by their names.

use std::sync::Arc;

use ballista_core::serde::BallistaPhysicalExtensionCodec;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::TaskContext;
use datafusion::logical_expr::ScalarUDF;
use datafusion::physical_plan::ExecutionPlan;
use datafusion_proto::physical_plan::{PhysicalExtensionCodec, PhysicalProtoConverterExtension};

/// Ballista's codec, which refuses what executors would compute otherwise than the client.
#[derive(Debug)]
pub(super) struct Codec {
    inner: BallistaPhysicalExtensionCodec,
    has_own_regions: bool,
}

impl Codec {
    pub(super) fn new(has_own_regions: bool) -> Self {
        Self {
            inner: BallistaPhysicalExtensionCodec::default(),
            has_own_regions,
        }
    }
}

impl PhysicalExtensionCodec for Codec {
    fn try_decode(
        &self,
        buffer: &[u8],
        inputs: &[Arc<dyn ExecutionPlan>],
        context: &TaskContext,
        converter: &dyn PhysicalProtoConverterExtension,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        self.inner.try_decode(buffer, inputs, context, converter)
    }

    fn try_encode(
        &self,
        node: Arc<dyn ExecutionPlan>,
        buffer: &mut Vec<u8>,
        converter: &dyn PhysicalProtoConverterExtension,
    ) -> Result<()> {
        self.inner.try_encode(node, buffer, converter)
    }

    /// Executors know the built-in table of regions.
    fn try_encode_udf(&self, function: &ScalarUDF, _: &mut Vec<u8>) -> Result<()> {
        if self.has_own_regions && matches!(function.name(), "region_of" | "local_time") {
            return Err(DataFusionError::Plan(format!(
                "{} with a table of regions of your own is not known to its executors",
                function.name()
            )));
        }
        Ok(())
    }
}

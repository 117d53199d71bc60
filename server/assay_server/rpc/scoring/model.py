"""ModelService: what is loaded, and the labels of its features."""

from assay.v1 import model_pb2, model_pb2_grpc

from assay_server.rpc import messages as results
from assay_server.rpc.errors import NotFound
from assay_server.rpc.pairs import check_feature_ids
from assay_server.rpc.state import Context, ServerState


class ModelServicer(model_pb2_grpc.ModelServiceServicer):
    """Answers from the loaded subject and its labels."""

    def __init__(self, state: ServerState) -> None:
        self._state = state

    async def GetModel(self, request: model_pb2.GetModelRequest, context: Context) -> model_pb2.GetModelResponse:
        """The loaded model, its measured fit and the limits in force."""
        _check_name(request.name, "name")
        loaded = self._state.loaded
        model = results.model(loaded.scorer.info, loaded.bounds.limits, version=self._state.version, labelled=loaded.labels.count)
        return model_pb2.GetModelResponse(model=model)

    async def BatchGetFeatures(
        self, request: model_pb2.BatchGetFeaturesRequest, context: Context
    ) -> model_pb2.BatchGetFeaturesResponse:
        """The features asked for, in the order asked."""
        _check_name(request.parent, "parent")
        loaded = self._state.loaded
        check_feature_ids(request.ids, loaded.bounds, "ids")
        return model_pb2.BatchGetFeaturesResponse(features=[results.feature(loaded.labels.get(id)) for id in request.ids])

    async def ListFeatures(self, request: model_pb2.ListFeaturesRequest, context: Context) -> model_pb2.ListFeaturesResponse:
        """A page of features."""
        _check_name(request.parent, "parent")
        page = self._state.loaded.labels.page(size=request.page_size, token=request.page_token, filter=request.filter)
        return model_pb2.ListFeaturesResponse(
            features=[results.feature(label) for label in page.features],
            next_page_token=page.next_page_token,
            total_size=page.total_size,
        )


def _check_name(name: str, field: str) -> None:
    if name not in ("", results.MODEL_NAME):
        raise NotFound(f'The only model is "{results.MODEL_NAME}"; {field} names another.', reason="MODEL_NOT_FOUND", field=field)

"""The tab "Register": a fixed and a moving volume, a method, a button."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from slicer.i18n import tr as _

from medseg.errors import MedSegError
from MedSegLib.choices import Choices
from MedSegLib.jobSection import JobSection, Services
from MedSegLib.lossCurve import LossCurve
from MedSegLib.registrationChoices import Effort, RegistrationMethod, Similarity, StartAt
from MedSegLib.registrationRun import RegistrationRequest
from MedSegLib.sentences import HINT_COLOR, colored

if TYPE_CHECKING:
    from medseg.models import ModelPackage
    from MedSegLib.jobRun import JobRun, Outcome
    from MedSegLib.modelList import ModelList
    from MedSegLib.parameterNode import MedSegParameterNode


class RegisterSection(JobSection):
    """Connects the widgets of the tab to the models, the worker and the parameter node."""

    startText = _("Register")
    startToolTip = _("Register in the background; the result is a transform.")
    cancelToolTip = _("Stop the registration; nothing is written.")
    closedSentence = _("The scene was closed, so the registration was stopped.")

    def __init__(self, ui: Any, services: Services, models: ModelList) -> None:
        super().__init__(ui.registerButton, ui.registerProgressBar, ui.registerStatusLabel, services)
        self._ui = ui
        self._models = models
        self._choices = Choices(ui.registerModelComboBox, self._onModelChosen)
        self._curve = LossCurve(ui.registerCurveLabel)
        self._refines = False
        self._smoothnessOf = ""
        ui.registerModelComboBox.setPlaceholderText(_("No model that registers"))
        ui.registerFinishButton.connect("clicked(bool)", self.onFinishButton)

    def setParameterNode(self, parameterNode: MedSegParameterNode | None) -> None:
        """Show the parameters of a node; None while a scene is closed."""
        super().setParameterNode(parameterNode)
        package = self._package()
        self._smoothnessOf = "" if package is None else package.name

    def sceneIsClosing(self) -> None:
        """Give up the run, and let go of the last one's nodes: they are about to go."""
        super().sceneIsClosing()
        self._curve.clear()

    def update(self) -> None:
        """Bring the widgets in line with the parameters, the models and the run."""
        self._showModels()
        self._takeSmoothness()
        self._enableWidgets()
        self._showTable()
        self._ui.registerHintLabel.text = "<br>".join(colored(hint, HINT_COLOR) for hint in self._hints())
        self._ui.registerHintLabel.setVisible(bool(self._ui.registerHintLabel.text))
        self.updateButton()

    def updateButton(self) -> None:
        """Bring the buttons in line with the run and with what is missing for one."""
        super().updateButton()
        button = self._ui.registerFinishButton
        button.setVisible(self.controller.isRunning and self._refines)
        button.enabled = not self.controller.isStopping and not self._isFinishing and bool(self._losses())

    def onFinishButton(self, _checked: bool = False) -> None:
        """Let the refinement end with the best that it has found."""
        self._services.log.add("Stop and keep the best")
        self.controller.finishEarly()
        self.updateButton()

    # --- a run

    def _request(self) -> RegistrationRequest | None:
        from medseg.mrml.registration_inputs import RegistrationNodes

        parameters = self._parameterNode
        if parameters is None or self._obstacle():
            return None
        package = self._package()
        return RegistrationRequest(
            nodes=RegistrationNodes(
                fixed=parameters.registerFixed,
                moving=parameters.registerMoving,
                fixed_mask=parameters.registerFixedMask,
                moving_mask=parameters.registerMovingMask,
                fixed_segmentation=parameters.registerFixedSegmentation,
                moving_segmentation=parameters.registerMovingSegmentation,
                fixed_points=parameters.registerFixedPoints,
                moving_points=parameters.registerMovingPoints,
                initial=parameters.registerInitial,
            ),
            options=self._options(),
            model="" if package is None else str(package.folder),
            start=parameters.registerStart.value,
            transformNode=parameters.registerTransform,
            showThrough=parameters.registerShowThrough,
            showGrid=parameters.registerShowGrid,
        )

    def _options(self) -> dict[str, Any]:
        parameters = self._parameterNode
        outputs = {
            "warped": parameters.registerWarped,
            "labels": parameters.registerLabels and parameters.registerMovingSegmentation is not None,
            "jacobian": parameters.registerJacobian,
            "checkerboard": parameters.registerCheckerboard,
            "difference": parameters.registerDifference,
        }
        method = parameters.registerMethod
        if self._isLinear and method is not RegistrationMethod.RIGID:
            # Without weights and without refinement a deformable method would do nothing after the alignment.
            method = RegistrationMethod.AFFINE
        return {
            "method": method.value,
            "refine": Effort.QUICK.value if self._isLinear else parameters.registerEffort.value,
            "smoothness": parameters.registerSmoothness,
            "similarity": parameters.registerSimilarity.value,
            "regulariser": parameters.registerRegulariser.value,
            "metric": parameters.registerMetric.value,
            "inverse": parameters.registerInverse,
            "outputs": [name for name, isWanted in outputs.items() if isWanted],
            "device": parameters.registerDevice.value,
        }

    def _describe(self, request: RegistrationRequest) -> str:
        package = self._package()
        model = "" if package is None else f" with {package.name} {package.version}"
        return f"Register{model}, begin at {request.start}: {request.options}"

    def _obstacle(self) -> str:
        parameters = self._parameterNode
        if parameters is None or parameters.registerFixed is None:
            return _("Choose a fixed volume.")
        if parameters.registerMoving is None:
            return _("Choose a moving volume.")
        if parameters.registerFixed is parameters.registerMoving:
            return _("Choose two different volumes.")
        if parameters.registerMethod is RegistrationMethod.MODEL and self._package() is None:
            return _("Choose a model, or another method.")
        return self._outputProblem()

    def _outputProblem(self) -> str:
        from medseg.mrml.transforms import check_output

        parameters = self._parameterNode
        node, fixed = parameters.registerTransform, parameters.registerFixed
        if node is None:
            return ""
        try:
            check_output(node, node.GetScene(), linear=self._isLinear, fixed_node=fixed)
        except MedSegError as error:
            return str(error)
        return ""

    def _start(self) -> None:
        self._curve.clear()
        self._refines = not self._isLinear and self._parameterNode.registerEffort is not Effort.NONE
        super()._start()

    def _onProgress(self, run: JobRun) -> None:
        super()._onProgress(run)
        self._curve.update(self._losses())

    def _onOutcome(self, outcome: Outcome) -> None:
        self._curve.update(self._losses(), now=True)
        if outcome.state != "done":
            return
        parameters = self._parameterNode
        if parameters is not None and parameters.smoothTransform is None and not outcome.transformNode.IsLinear():
            parameters.smoothTransform = outcome.transformNode

    # --- what is chosen

    @property
    def _isLinear(self) -> bool:
        """Whether the parameters ask for no deformation."""
        parameters = self._parameterNode
        if parameters is None:
            return True
        method = parameters.registerMethod
        isIdle = parameters.registerEffort is Effort.NONE and method is not RegistrationMethod.MODEL
        return not method.isDeformable or isIdle

    @property
    def _isFinishing(self) -> bool:
        return self.job is not None and self.job.finish_requested.is_set()

    def _losses(self) -> list[float | None]:
        from medseg.backend.verbs_registration import LOSS

        return [] if self.job is None else self.job.figures(LOSS)

    def _packages(self) -> dict[str, ModelPackage]:
        return {package.name: package for package in self._models.registering}

    def _package(self) -> ModelPackage | None:
        parameters = self._parameterNode
        if parameters is None or parameters.registerMethod is not RegistrationMethod.MODEL:
            return None
        return self._packages().get(parameters.registerModel)

    def _onModelChosen(self, name: str) -> None:
        if self._parameterNode is not None:
            self._parameterNode.registerModel = name
        self.update()

    def _takeSmoothness(self) -> None:
        """Begin with the smoothness that a model was trained for, once when it is chosen; the user may change it."""
        package = self._package()
        if package is None or package.registration is None or package.name == self._smoothnessOf:
            return
        self._smoothnessOf = package.name
        self._parameterNode.registerSmoothness = package.registration.smoothness

    # --- widgets

    def _showModels(self) -> None:
        parameters, packages = self._parameterNode, self._packages()
        if parameters is not None and packages and not parameters.registerModel:
            parameters.registerModel = next(iter(packages))
        titles = {name: package.title for name, package in packages.items()}
        self._choices.show(titles, "" if parameters is None else parameters.registerModel)

    def _enableWidgets(self) -> None:
        parameters, ui = self._parameterNode, self._ui
        method = None if parameters is None else parameters.registerMethod
        isDeformable = method is not None and method.isDeformable
        for widget in (ui.registerModelLabel, ui.registerModelComboBox):
            widget.setVisible(method is RegistrationMethod.MODEL)
        for widget in (ui.registerEffortLabel, ui.registerEffortComboBox):
            widget.enabled = isDeformable
        for widget in (
            ui.registerSmoothnessLabel,
            ui.registerSmoothnessSlider,
            ui.registerSimilarityLabel,
            ui.registerSimilarityComboBox,
            ui.registerRegulariserLabel,
            ui.registerRegulariserComboBox,
            ui.registerDeviceLabel,
            ui.registerDeviceComboBox,
            ui.registerJacobianCheckBox,
        ):
            widget.enabled = not self._isLinear
        isInitial = parameters is not None and parameters.registerStart is StartAt.TRANSFORM
        for widget in (ui.registerInitialLabel, ui.registerInitialSelector):
            widget.enabled = isInitial
        ui.registerLabelsCheckBox.enabled = parameters is not None and parameters.registerMovingSegmentation is not None

    def _showTable(self) -> None:
        table = None if self.lastOutcome is None else self.lastOutcome.tableNode
        view = self._ui.registerTableView
        if view.mrmlTableNode() is not table:
            view.setMRMLTableNode(table)
            view.resizeColumnsToContents()
        self._ui.registerResultsCollapsibleButton.setVisible(table is not None)

    def _hints(self) -> list[str]:
        from medseg.mrml.volumes import modality_of

        parameters, package = self._parameterNode, self._package()
        hints = []
        if package is not None and package.registration is not None:
            hints.append(_("The model was trained for: {domain}.").format(domain=package.registration.domain))
        nodes = [] if parameters is None else [parameters.registerFixed, parameters.registerMoving]
        modalities = {modality_of(node) for node in nodes if node is not None} - {""}
        if len(modalities) > 1 and not self._isLinear and parameters.registerSimilarity is Similarity.LNCC:
            hints.append(_("Local correlation does not fit two modalities: choose another similarity."))
        return hints

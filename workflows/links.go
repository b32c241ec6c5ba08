package workflows

import (
	"fmt"
	"net/url"
	"strings"

	"github.com/esclab/esclab/experiments"
	"github.com/esclab/esclab/internal/inert"
)

// The web UI writes its namespace, and the page's workflow ID, where Markdown has
// {namespace} and {workflowId}: links need to know neither, nor the UI's address.
const (
	uiNamespace = "/namespaces/{namespace}/workflows"
	uiWorkflow  = "{workflowId}"
)

// maxDetails bounds the details that a workflow is started with: Temporal takes 20,000
// bytes of JSON, in which a line's end is two.
const maxDetails = 16_000

// Is is a query for the workflows whose attribute has a value.
func Is(attribute, value string) string {
	return fmt.Sprintf("%s = '%s'", attribute, strings.NewReplacer(`\`, `\\`, "'", `\'`).Replace(value))
}

// link leads to the page of a workflow's newest execution, or of the one with a run ID.
func link(text, workflowID, runID string) string {
	page := uiNamespace + "/" + url.PathEscape(workflowID)
	if runID != "" {
		page += "/" + url.PathEscape(runID) + "/user-metadata"
	}
	return fmt.Sprintf("[%s](%s)", inert.Page(text), page)
}

// listLink leads to the list of the workflows that a query finds.
func listLink(text, query string) string {
	query = strings.NewReplacer("+", "%20", "%7B", "{", "%7D", "}").Replace(url.QueryEscape(query))
	return fmt.Sprintf("[%s](%s?query=%s)", inert.Page(text), uiNamespace, query)
}

// files leads to what the store holds of a stage, where the web UI has that: to a file
// of it, or with "" to their list. Otherwise it is the text alone.
func (f Facts) files(text, fingerprint, file string) string {
	if f.FilesPath == "" {
		return text
	}
	return fmt.Sprintf("[%s](%s%s/%s)", text, f.FilesPath, fingerprint, url.PathEscape(file))
}

// Details are what a run's page shows even where no worker is up: the ways to its
// stages, to what it belongs to, and to its report.
func (in RunInput) Details() string {
	plan := in.plan()
	if plan.Stages == 0 {
		return ""
	}
	lines := []string{
		listLink("Its stages", Is("ParentWorkflowId", uiWorkflow)) + fmt.Sprintf(": %d, of which those in the store are reused", plan.Stages),
		"The final comparison of its systems: in the run's result, and on the page of " + link("its report", StageWorkflowID(plan.LastName, plan.Last), ""),
		"The report itself, then: " + in.Facts.files("report.html", plan.Last, "report.html") + ", or " + inert.PageCode("esclab report "+uiWorkflow) +
			"; artifacts and models: " + inert.PageCode("esclab export "+uiWorkflow),
	}
	f := in.Facts
	if name, ok := f.AttributeNamed(AttrSweep.GetName()); ok && f.Sweep != "" {
		lines = append(lines, listLink("The cells of sweep "+f.Sweep, Is("WorkflowType", RunName)+" AND "+Is(name, f.Sweep)))
	}
	if name, ok := f.AttributeNamed(AttrExperiment.GetName()); ok {
		lines = append(lines, listLink("All runs of "+in.Experiment, Is("WorkflowType", RunName)+" AND "+Is(name, in.Experiment)))
	}
	return bullets(lines)
}

// stageDetails are what the page of a run's stage shows even where no worker is up: the
// run and the stages that it reads from. The report, before which everything is
// evaluated, has the comparison of the run's systems, too.
func (r *run) stageDetails(self wanter, in StageInput) string {
	inputs := make([]string, 0, len(in.Stage.Inputs))
	for _, name := range sortedValues(in.Stage.Inputs) {
		inputs = append(inputs, link(name, r.stageID(name), ""))
	}
	lines := []string{"Of " + link(self.WorkflowID, self.WorkflowID, self.RunID)}
	if f := in.Facts; f.FilesPath != "" {
		lines = append(lines, f.files("The files of its artifact", in.Stage.Fingerprint, "")+", once it is done")
	}
	if len(inputs) > 0 && in.Stage.Kind != experiments.KindReport {
		lines = append(lines, "Reads from "+strings.Join(inputs, ", "))
	}
	details := bullets(lines)
	if in.Stage.Kind == experiments.KindReport {
		details += systemsTable(r.state.Stages)
	}
	return details
}

// Details are what a sweep's page shows even where no worker is up.
func (in SweepInput) Details() string {
	lines := []string{"Its table: " + inert.PageCode("esclab sweep table "+in.Name)}
	if name, ok := in.Facts.AttributeNamed(AttrSweep.GetName()); ok {
		lines = append(lines, listLink("The runs of its cells", Is("WorkflowType", RunName)+" AND "+Is(name, in.Name)))
	}
	return bullets(lines)
}

// Details are the comparison, as far as Temporal takes it.
func (in CompareInput) Details() string { return shortened(in.Table) }

func bullets(lines []string) string { return shortened("- " + strings.Join(lines, "\n- ") + "\n") }

// shortened cuts details at the end of a line where they are too long.
func shortened(details string) string {
	if len(details)+strings.Count(details, "\n") <= maxDetails {
		return details
	}
	cut := details[:maxDetails/2]
	return cut[:strings.LastIndexByte(cut, '\n')+1] + "\n…\n"
}

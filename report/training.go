package report

import (
	"fmt"
	"strconv"

	"github.com/esclab/esclab/esc"
	"github.com/esclab/esclab/experiments"
)

// trainingSection is Table 7 and the training stages with their loss curves;
// those of several seeds share a figure.
func trainingSection(d Data, p paper) (section, error) {
	s := section{ID: "training", Title: "Training", Missing: "nothing was trained"}
	table7 := preferenceTable(d, p)
	table7.Sources = d.sources(nil, experiments.KindDPO)
	t := table{
		Caption: "Training stages. Accuracy and margin: how often, and by how much, the implicit reward of the chosen side is the higher one.",
		Heads: []head{{Text: "Stage"}, {Text: "Kind"}, {"Steps", true}, {"Tokens", true}, {"Loss", true},
			{"Validation loss", true}, {"DPO accuracy", true}, {"DPO margin", true}},
		Sources: d.sources(nil, experiments.KindBase, experiments.KindSFT, experiments.KindDPO),
	}
	var order []string
	seeds := map[string][]Training{}
	for _, in := range d.Training {
		accuracy := number(absent)
		if in.Accuracy != nil {
			accuracy = number(fixed(Value(100**in.Accuracy), 1) + " %")
		}
		t.Rows = append(t.Rows, []cell{text(in.Stage), text(in.Kind), count(in.Steps), number(strconv.FormatInt(in.Tokens, 10)),
			decimal(in.Loss, 4), decimal(in.ValidationLoss, 4), accuracy, decimal(in.Margin, 4)})
		stage := experiments.WithoutSeed(in.Stage)
		if seeds[stage] == nil {
			order = append(order, stage)
		}
		seeds[stage] = append(seeds[stage], in)
	}
	for _, stage := range order {
		for _, of := range curves() {
			f, ok, err := of.draw(stage, seeds[stage])
			if err != nil {
				return s, err
			}
			if ok {
				s.Figures = append(s.Figures, f)
			}
		}
	}
	s.Figures = oneLegend("Curves by step", s.Figures)
	s.Tables = nonEmpty(table7, t, movementTable(d))
	return s, nil
}

// movementTable says how far preference training has moved the answers' log-probabilities, and what that warns of.
func movementTable(d Data) table {
	t := table{
		Caption: "What preference training has moved: mean change of an answer's log-probability from the SFT model's, in nats, " +
			"over the last tenth of the steps (with simpo, which has no reference, from the first tenth's). Sampling noise: the " +
			"standard error of the chosen answers' mean log-probability before the training, over the first epoch's batches.",
		Heads:   []head{{Text: "Stage"}, {"Chosen", true}, {"Rejected", true}, {"Margin", true}, {"Sampling noise", true}},
		Sources: d.sources(nil, experiments.KindDPO),
	}
	for _, in := range d.Training {
		m := in.Moved
		if m == nil {
			continue
		}
		nats := func(x float64) cell { return number(strconv.FormatFloat(x, 'g', 3, 64)) }
		t.Rows = append(t.Rows, []cell{text(in.Stage), nats(m.Chosen), nats(m.Rejected), nats(m.Chosen - m.Rejected), nats(m.Noise)})
		if m.Warning != "" {
			t.Notes = append(t.Notes, in.Stage+": "+m.Warning+".")
		}
	}
	return t
}

// preferenceTable is Table 7.
func preferenceTable(d Data, p paper) table {
	b, _ := p.compared(d.Run.Backbone)
	t := table{
		Caption: "Preference training (the paper's Table 7)",
		Paper:   fmt.Sprintf("small figures are the paper's for %s", b.Name),
		Heads: []head{{Text: "Stage"}, {Text: "Role"}, {Text: "Pairs"}, {Text: "Loss"},
			{"Learning rate", true}, {"Beta", true}, {"Epochs", true}, {"Batch", true}},
	}
	general := func(v float64) string { return strconv.FormatFloat(v, 'g', -1, 64) }
	for _, in := range d.Preference {
		rate, beta := number(general(in.LearningRate)), number(general(in.Beta))
		if printed, ok := b.DPO[in.Role]; ok {
			rate.Paper, beta.Paper = general(printed.LearningRate), general(printed.Beta)
		}
		t.Rows = append(t.Rows, []cell{text(in.Stage), text(roleName(in.Role)), text(string(in.Pairs)), text(string(in.Loss)),
			rate, beta, count(in.Epochs), count(in.BatchSize)})
	}
	return t
}

func roleName(r esc.Role) string {
	switch r {
	case esc.VM:
		return "Vanilla-DPO (vm)"
	case esc.SP:
		return "SP-DPO (sp)"
	case esc.RG:
		return "RG-DPO (rg)"
	}
	return string(r)
}

package experiments

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/esclab/esclab/esc"
)

// Loss is a preference loss.
type Loss string

const (
	LossDPO     Loss = "dpo"      // equations 5 and 6
	LossIPO     Loss = "ipo"      // Azar et al. 2023
	LossSimPO   Loss = "simpo"    // Meng et al. 2024: no reference model
	LossKTO     Loss = "kto"      // Ethayarajh et al. 2024: each answer by itself, desirable or undesirable
	LossKTOPair Loss = "kto_pair" // TRL's first KTO, whose KL is that of the pairs' other halves
)

// lossRow is a row of the table of losses: what a loss takes where the experiment says nothing.
type lossRow struct {
	loss Loss
	role DPORole // of every role; dpo's own are Table 7's
	// least and most bound the betas that are in use for the loss. Another beta is allowed, and warned of: the losses
	// multiply different things by beta, so that what is right for one is out of another's range.
	least, most float64
}

// losses is the table of losses. Betas are those that Meng et al. 2024 search for each (their Table 7; simpo to 10 in
// the authors' README), dpo and the KTOs up to 1 since TRL's documentation has up to 0.5; defaults of ipo and kto are
// those of TRL's DPOConfig and KTOConfig, which kto_pair shares, simpo's are those of the authors' README.
func losses() []lossRow {
	return []lossRow{
		{LossDPO, DPORole{}, 0.01, 1},
		{LossIPO, DPORole{LearningRate: 1e-6, Beta: 0.1}, 0.01, 1},
		{LossSimPO, DPORole{LearningRate: 1e-6, Beta: 2}, 1, 10},
		{LossKTO, DPORole{LearningRate: 1e-6, Beta: 0.1}, 0.01, 1},
		{LossKTOPair, DPORole{LearningRate: 1e-6, Beta: 0.1}, 0.01, 1},
	}
}

// Losses lists the preference losses.
func Losses() []Loss {
	var all []Loss
	for _, row := range losses() {
		all = append(all, row.loss)
	}
	return all
}

// row is the loss's row of the table; the zero row for an unknown loss.
func (l Loss) row() lossRow {
	for _, row := range losses() {
		if row.loss == l {
			return row
		}
	}
	return lossRow{}
}

// NeedsReference says whether the loss compares with the SFT model's
// log-probabilities; SimPO does not.
func (l Loss) NeedsReference() bool { return l != LossSimPO }

// For gives a role's learning rate and beta: what the experiment says, or else the loss's own.
func (d DPO) For(r esc.Role) DPORole {
	own := d.Loss.row().role
	if d.Loss == LossDPO {
		own = table7().For(r)
	}
	given := d.Roles.For(r)
	return DPORole{LearningRate: cmp.Or(given.LearningRate, own.LearningRate), Beta: cmp.Or(given.Beta, own.Beta)}
}

// table7 holds the paper's learning rates and betas for Qwen2.5-7B.
func table7() DPORoles {
	return DPORoles{
		VM: DPORole{LearningRate: 7e-7, Beta: 0.2},
		SP: DPORole{LearningRate: 5e-8, Beta: 0.5},
		RG: DPORole{LearningRate: 7e-7, Beta: 0.2},
	}
}

// gamma is simpo's target margin at a beta: half of it where the experiment says nothing, the ratio that SimPO's
// authors begin with.
func (d DPO) gamma(beta float64) float64 {
	if d.SimPOGamma != nil {
		return *d.SimPOGamma
	}
	return beta / 2
}

// Warnings lists what is allowed and yet hardly meant: betas of another loss, and
// the paper's prompts with a history that the paper's models do not see.
func (e Experiment) Warnings() []string {
	var list []string
	p := planner{exp: e}
	apart := slices.ContainsFunc(p.roles(), func(r esc.Role) bool { return r != esc.VM })
	if apart && e.Backbone.Prompts == PromptsPaper && e.Backbone.HistoryStrategies == HistoryKeep {
		list = append(list, "backbone.history_strategies: is keep with prompts paper: "+
			"in the paper planner and generator see no past strategies; strip hides them")
	}
	if !p.has(MethodDPO) {
		return list
	}
	own := e.DPO.Loss.row()
	for _, r := range p.roles() {
		if beta := e.DPO.For(r).Beta; beta < own.least || beta > own.most {
			list = append(list, fmt.Sprintf("dpo.roles.%s.beta: is %v with loss %s, whose betas lie between %v and %v: "+
				"it is another loss's; 0 takes the loss's own, %v", r, beta, own.loss, own.least, own.most, DPO{Loss: own.loss}.For(r).Beta))
		}
	}
	return list
}

// Warnings lists the cells' warnings, each once, with how many cells have it.
func (p PreparedSweep) Warnings() []string {
	var list []string
	count, first := map[string]int{}, map[string]string{}
	for _, cell := range p.Plan.Cells {
		exp, err := p.Plan.Experiment(cell.Cell)
		if err != nil {
			continue // the plan has laid it out, and would have said so
		}
		for _, w := range exp.Warnings() {
			if count[w]++; count[w] == 1 {
				list, first[w] = append(list, w), cell.Name
			}
		}
	}
	for i, w := range list {
		list[i] = fmt.Sprintf("%s (%d of %d cells, the first is %s)", w, count[w], len(p.Plan.Cells), first[w])
	}
	return list
}

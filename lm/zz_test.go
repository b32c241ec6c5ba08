package lm
import ("testing";"time";"fmt")
func TestZZ(t *testing.T) {
	engine := testEngine(t)
	model, _ := NewModel(benchConfig(), 1)
	adapter, _ := NewAdapter(model.Config, LoRA{Rank: 16, Alpha: 16, Dropout: 0.05}, 1)
	data := esconvExamples(t, "sp-sft", 60)
	t0 := time.Now()
	trainer, err := NewTrainer(engine, model, adapter, Dataset{Examples: data}, TrainConfig{Loss: Loss{Kind: LossSFT}, Epochs: 10, BatchSize: 32, LearningRate: 1e-4})
	if err != nil { t.Fatal(err) }
	fmt.Println("plan", len(data), time.Since(t0))
	for _, s := range trainer.Shapes() { fmt.Printf("%+v\n", s) }
	for range 4 {
		t0 = time.Now()
		m, err := trainer.Next(t.Context())
		if err != nil { t.Fatal(err) }
		fmt.Printf("%v %+v\n", time.Since(t0), m)
	}
}

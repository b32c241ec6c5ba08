package lm

// Watch has onToken told every token of the samples as it is drawn, the ones that end a sample apart, on the goroutine
// that calls Generate; nil ends it. A sample that is begun anew because a row's cache was full (GenerateStats.Restarts)
// tells its tokens again, from position 0, and they are the same.
func (g *Generator) Watch(onToken func(request, sample, position int, id int32)) { g.onToken = onToken }

// Reseed changes GenerateConfig.Seed for the calls that follow, without compiling anything anew.
func (g *Generator) Reseed(seed uint64) { g.config.Seed = seed }

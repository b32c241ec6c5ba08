//go:build cgo

package cpu_test

import (
	"fmt"
	"os"
	"runtime"
	"syscall"

	"testing"
	"time"

	"github.com/gomlx/compute/gobackend"
	. "github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"

	"github.com/esclab/esclab/lm/cpu"
)

// cpuTime is the processor time of this process, all threads together.
func cpuTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// pageFaults is the number of pages that this process has first touched.
func pageFaults() int64 {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return u.Minflt
}

func benchmarkStep(b *testing.B, rank int) {
	for _, config := range []string{"ops_sequential,creation_order", "parallelism=-1,creation_order"} {
		b.Run(config, func(b *testing.B) {
			backend, err := gobackend.New(config)
			if err != nil {
				b.Fatal(err)
			}
			m := smallLlama(rank)
			m.init()
			exec := m.step(backend)
			m.run(b, backend, exec, 0, 1)
			start, faults := cpuTime(), pageFaults()
			b.ResetTimer()
			for i := range b.N {
				m.run(b, backend, exec, 1+i, 1)
			}
			b.ReportMetric(float64(b.N*m.batch*m.seq)/b.Elapsed().Seconds(), "tok/s")
			b.ReportMetric((cpuTime()-start).Seconds()*1e3/float64(b.N), "cpu-ms/op")
			b.ReportMetric(float64(pageFaults()-faults)/float64(b.N), "faults/op")
		})
	}
}

func BenchmarkStepFull(b *testing.B) { benchmarkStep(b, 0) }
func BenchmarkStepLoRA(b *testing.B) { benchmarkStep(b, 16) }

func BenchmarkGemm(b *testing.B) {
	backend, err := gobackend.New("parallelism=-1,creation_order")
	if err != nil {
		b.Fatal(err)
	}
	type c struct{ batch, m, n, k, layout int }
	for _, p := range []c{{1, 2048, 256, 256, 1}, {1, 2048, 688, 256, 1}, {1, 2048, 256, 688, 0}, {1, 256, 256, 2048, 1}, {1, 2048, 4096, 256, 1}, {16, 512, 256, 64, 1}, {16, 512, 64, 256, 0},
		{1, 2048, 16, 256, 1}, {1, 2048, 256, 16, 1}, {1, 16, 256, 2048, 0}, {1, 16, 688, 2048, 0}, {1, 688, 16, 2048, 0}, {1, 32, 1536, 576, 1}, {1, 128, 1536, 576, 1}, {1, 1, 576, 576, 1}, {1, 16, 1536, 576, 1}, {1, 1, 49152, 576, 1}, {1, 16, 49152, 576, 1}, {1, 64, 1536, 576, 1}, {1, 1024, 1024, 1024, 0}, {4, 298, 746, 64, 1}, {4, 298, 64, 746, 0}} {
		b.Run(fmt.Sprintf("%dx%dx%dx%d.%d", p.batch, p.m, p.n, p.k, p.layout), func(b *testing.B) {
			x := tensors.FromFlatDataAndDimensions(uniform(1, p.batch*p.m*p.k, 1), p.batch, p.m, p.k)
			yd := []int{p.batch, p.k, p.n}
			if p.layout == 1 {
				yd = []int{p.batch, p.n, p.k}
			}
			y := tensors.FromFlatDataAndDimensions(uniform(2, p.batch*p.n*p.k, 1), yd...)
			exec := MustNewExec(backend, func(x, y *Node) *Node { return DotGeneral(x, []int{2}, []int{0}, y, []int{1 + p.layout}, []int{0}) })
			exec.MustCall(x, y)
			start := cpuTime()
			for b.Loop() {
				exec.MustCall(x, y)[0].MustFinalizeAll()
			}
			b.ReportMetric(2*float64(p.batch*p.m*p.n*p.k)*float64(b.N)/b.Elapsed().Seconds()/1e9, "GFLOPS")
			b.ReportMetric(2*float64(p.batch*p.m*p.n*p.k)*float64(b.N)/(cpuTime()-start).Seconds()/1e9, "GFLOPS/core")
		})
	}
}

func TestMain(m *testing.M) {
	status, err := cpu.Install(cpu.Options{})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println("kernels:", status.Kernels, status.Reason)
	os.Exit(m.Run())
}

// TestProfile prints where a training step spends its time (set PROFILE=full or
// PROFILE=lora).
func TestProfile(t *testing.T) {
	what := os.Getenv("PROFILE")
	if what == "" {
		t.Skip("set PROFILE=full or PROFILE=lora")
	}
	backend, err := gobackend.New("ops_sequential,creation_order")
	if err != nil {
		t.Fatal(err)
	}
	runtime.LockOSThread()
	if _, err := cpu.Install(cpu.Options{Threads: 1}); err != nil {
		t.Fatal(err)
	}
	m := smallLlama(map[string]int{"full": 0, "lora": 16}[what])
	m.init()
	exec := m.step(backend)
	m.run(t, backend, exec, 0, 1)
	stop := cpu.Profile()
	m.run(t, backend, exec, 1, 2)
	fmt.Println(stop(40))
}

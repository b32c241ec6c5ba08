//go:build cgo

package cpu

import (
	"fmt"
	"reflect"
	"runtime/debug"

	"github.com/gomlx/compute"
	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/gobackend"
	"github.com/gomlx/compute/shapes"
)

// moduleVersion is the version of github.com/gomlx/compute that the mirrors of
// hook.go were written for.
const moduleVersion = "v0.1.6"

// checkLayout compares the mirrored types with the backend's own, reached from
// the nodes of a small graph and from a buffer.
func checkLayout() error {
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, m := range info.Deps {
			if m.Path == "github.com/gomlx/compute" && m.Version != moduleVersion {
				return fmt.Errorf("module %s is %s, and the kernels know %s", m.Path, m.Version, moduleVersion)
			}
		}
	}
	b, err := gobackend.New("")
	if err != nil {
		return err
	}
	defer b.Finalize()
	f := b.Builder("layout").Main()
	x, err := f.Parameter("x", shapes.Make(dtypes.Float32, 2, 2), nil)
	if err != nil {
		return err
	}
	i, err := f.Parameter("i", shapes.Make(dtypes.Int32, 3, 1), nil)
	if err != nil {
		return err
	}
	dot, err := f.DotGeneral(x, []int{1}, nil, x, []int{1}, nil, compute.DotGeneralConfig{})
	if err != nil {
		return err
	}
	gather, err := f.Gather(x, i, 1, []int{1}, []int{0}, []int{0}, []int{1, 2}, false)
	if err != nil {
		return err
	}
	scatter, err := f.ScatterSum(x, i, gather, 1, []int{1}, []int{0}, []int{0}, false, false)
	if err != nil {
		return err
	}
	slice, err := f.Slice(x, []int{0, 0}, []int{1, 1}, nil)
	if err != nil {
		return err
	}
	transpose, err := f.Transpose(x, 1, 0)
	if err != nil {
		return err
	}
	sum, err := f.ReduceSum(x, 1)
	if err != nil {
		return err
	}
	broadcast, err := f.BroadcastInDim(sum, shapes.Make(dtypes.Float32, 2, 2), []int{0})
	if err != nil {
		return err
	}
	pad, err := f.Pad(x, sum, compute.PadAxis{}, compute.PadAxis{})
	if err != nil {
		return err
	}
	softmax, err := f.FusedSoftmax(x, 1)
	if err != nil {
		return err
	}
	buf, err := b.BufferFromFlatData(0, make([]float32, 4), shapes.Make(dtypes.Float32, 2, 2))
	if err != nil {
		return err
	}
	nodeType := reflect.TypeOf(x)
	if nodeType.Kind() != reflect.Pointer {
		return fmt.Errorf("a node is a %s", nodeType)
	}
	if err := sameLayout(reflect.TypeFor[node](), nodeType.Elem(), 0); err != nil {
		return err
	}
	if err := sameLayout(reflect.TypeFor[buffer](), reflect.TypeOf(buf).Elem(), 0); err != nil {
		return err
	}
	for _, c := range []struct {
		value  compute.Value
		mirror reflect.Type
	}{
		{dot, reflect.TypeFor[*dotData]()},
		{gather, reflect.TypeFor[*gatherData]()},
		{scatter, reflect.TypeFor[*scatterData]()},
		{slice, reflect.TypeFor[*sliceData]()},
		{pad, reflect.TypeFor[*padData]()},
		{softmax, reflect.TypeFor[*softmaxData]()},
		{transpose, reflect.TypeFor[[]int]()},
		{sum, reflect.TypeFor[[]int]()},
		{broadcast, reflect.TypeFor[[]int]()},
	} {
		// A DotGeneral, for one, may end in a reshape of the node that has data.
		v := reflect.ValueOf(c.value).Elem()
		for v.FieldByName("Data").IsNil() && v.FieldByName("Inputs").Len() > 0 {
			v = v.FieldByName("Inputs").Index(0).Elem()
		}
		real := v.FieldByName("Data").Elem()
		if !real.IsValid() {
			return fmt.Errorf("a node for %s has no data", c.mirror)
		}
		if err := sameLayout(c.mirror, real.Type(), 0); err != nil {
			return err
		}
	}
	return checkMethods(reflect.TypeOf(b), reflect.TypeOf(buf))
}

// checkMethods verifies the signatures of the methods that hook.go links to.
func checkMethods(backendType, bufferType reflect.Type) error {
	errorType, shapeType := reflect.TypeFor[error](), reflect.TypeFor[shapes.Shape]()
	get, ok := backendType.MethodByName("GetBuffer")
	if !ok || get.Type != reflect.FuncOf([]reflect.Type{backendType, shapeType}, []reflect.Type{bufferType, errorType}, false) {
		return fmt.Errorf("%s.GetBuffer is not as known", backendType)
	}
	put, ok := backendType.MethodByName("PutBuffer")
	if !ok || put.Type != reflect.FuncOf([]reflect.Type{backendType, bufferType}, nil, false) {
		return fmt.Errorf("%s.PutBuffer is not as known", backendType)
	}
	return nil
}

// sameLayout compares a mirror with the type that it stands for, following
// struct fields, slices and the first level of pointers.
func sameLayout(mirror, real reflect.Type, depth int) error {
	if mirror == real {
		return nil
	}
	kind := mirror.Kind()
	if kind == reflect.UnsafePointer {
		kind = reflect.Pointer
	}
	if kind != real.Kind() || mirror.Size() != real.Size() {
		return fmt.Errorf("%s is not laid out as %s", real, mirror)
	}
	switch mirror.Kind() {
	case reflect.Struct:
		if mirror.NumField() != real.NumField() {
			return fmt.Errorf("%s has %d fields, not %d", real, real.NumField(), mirror.NumField())
		}
		for i := range mirror.NumField() {
			m, r := mirror.Field(i), real.Field(i)
			if m.Name != r.Name || m.Offset != r.Offset {
				return fmt.Errorf("field %d of %s is %s at %d, not %s at %d", i, real, r.Name, r.Offset, m.Name, m.Offset)
			}
			if err := sameLayout(m.Type, r.Type, depth); err != nil {
				return fmt.Errorf("%s.%s: %w", real, r.Name, err)
			}
		}
	case reflect.Slice:
		return sameLayout(mirror.Elem(), real.Elem(), depth)
	case reflect.Pointer:
		// backend is known by its address alone.
		if depth > 1 || mirror.Elem() == reflect.TypeFor[backend]() {
			return nil
		}
		return sameLayout(mirror.Elem(), real.Elem(), depth+1)
	}
	return nil
}

package esc

import "fmt"

// skip consumes one value of any kind and keeps nothing of it.
func (s *scanner) skip(depth int) error {
	if depth > maxDepth {
		return fmt.Errorf("values nested deeper than %d", maxDepth)
	}
	c, err := s.peek()
	if err != nil {
		return err
	}
	switch {
	case c == '{':
		return s.object(func(string) error { return s.skip(depth + 1) })
	case c == '[':
		return s.array(func(int) error { return s.skip(depth + 1) })
	case c == '"':
		return s.stringBytes(func([]byte) error { return nil })
	case c == 't':
		return s.literal("true")
	case c == 'f':
		return s.literal("false")
	case c == 'n':
		return s.literal("null")
	}
	return s.number()
}

func (s *scanner) literal(word string) error {
	for i := range len(word) {
		c, err := s.next()
		if err != nil {
			return err
		}
		if c != word[i] {
			return fmt.Errorf("found %q inside %q", c, word)
		}
	}
	return nil
}

// number consumes a number by JSON's grammar.
func (s *scanner) number() error {
	digits := func() (int, error) {
		n := 0
		for {
			ahead, err := s.r.Peek(1)
			if err != nil || ahead[0] < '0' || ahead[0] > '9' {
				return n, nil
			}
			if _, err := s.next(); err != nil {
				return n, err
			}
			n++
		}
	}
	take := func(set string) (bool, error) {
		ahead, err := s.r.Peek(1)
		if err != nil {
			return false, nil
		}
		for i := range len(set) {
			if ahead[0] == set[i] {
				_, err := s.next()
				return true, err
			}
		}
		return false, nil
	}
	someDigits := func() error {
		n, err := digits()
		if err == nil && n == 0 {
			if ahead, e := s.r.Peek(1); e == nil {
				return fmt.Errorf("found %q where a value belongs", ahead[0])
			}
			return errTruncated
		}
		return err
	}
	if _, err := take("-"); err != nil {
		return err
	}
	if zero, err := take("0"); err != nil {
		return err
	} else if !zero {
		if err := someDigits(); err != nil {
			return err
		}
	}
	if point, err := take("."); err != nil {
		return err
	} else if point {
		if err := someDigits(); err != nil {
			return err
		}
	}
	if exponent, err := take("eE"); err != nil || !exponent {
		return err
	}
	if _, err := take("+-"); err != nil {
		return err
	}
	return someDigits()
}

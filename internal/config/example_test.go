package config_test

import (
	"fmt"

	"stateproxy/internal/config"
)

func ExampleParse() {
	_, err := config.Parse("config.yaml", []byte(`
backends:
  - name: s1
    address: 10.0.0.11:42424
    weight: 0
timeouts:
  bugdet: 8s
  dial: 2
`))
	fmt.Println(err)
	// Output:
	// config.yaml:5:13: backends[0].weight: want 1..1000, got 0
	// config.yaml:7:3: timeouts.bugdet: unknown key, did you mean budget?
	// config.yaml:8:9: timeouts.dial: want a duration with a unit such as 8s, got 2
}

func ExampleDiff() {
	before, err := config.Parse("config.yaml", []byte(`
backends:
  - {name: s1, address: 10.0.0.11}
  - {name: s2, address: 10.0.0.12}
`))
	if err != nil {
		fmt.Println(err)
		return
	}
	after, err := config.Parse("config.yaml", []byte(`
backends:
  - {name: s1, address: 10.0.0.11, weight: 3}
  - {name: s2, address: 10.0.0.12}
  - {name: s3, address: 10.0.0.13}
timeouts: {budget: 6s}
`))
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, line := range config.Diff(before, after) {
		fmt.Println(line)
	}
	// Output:
	// backends: s1 weight 1 -> 3
	// backends: s3 added (10.0.0.13:42424, weight 1)
	// timeouts.budget 8s -> 6s
}

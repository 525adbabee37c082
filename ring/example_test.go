package ring_test

import (
	"fmt"

	"stateproxy/ring"
)

func Example() {
	before, err := ring.New([]ring.Member{{Name: "s1", Weight: 1}, {Name: "s2", Weight: 2}, {Name: "s3", Weight: 1}})
	if err != nil {
		fmt.Println(err)
		return
	}
	sessionID := []byte("ogpiwfmkhqvw1pqijyhwkbfr")
	ranked := before.Owners(nil, sessionID, 2)
	fmt.Println("owner:", before.Members()[ranked[0]].Name)
	fmt.Println("successor:", before.Members()[ranked[1]].Name)
	fmt.Printf("share of s2: %.2f\n", before.Share(1))

	// Without s2 only its own sessions move, each to its successor.
	after, err := ring.New([]ring.Member{{Name: "s1", Weight: 1}, {Name: "s3", Weight: 1}})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("owner without s2:", after.Members()[after.Owner(sessionID)].Name)
	fmt.Printf("moved: %.2f\n", ring.Moved(before, after))
	// Output:
	// owner: s2
	// successor: s3
	// share of s2: 0.50
	// owner without s2: s3
	// moved: 0.50
}

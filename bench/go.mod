module stateproxy/bench

go 1.26

package picture

// Share divides a budget between pictures that would take the sizes alone. Each gets
// the same, and what small ones leave goes to the others.
func Share(budget int, sizes []int) []int {
	shares := make([]int, len(sizes))
	open := len(sizes)
	for open > 0 {
		equal := budget / open
		settled := false
		for i, size := range sizes {
			if shares[i] == 0 && size <= equal {
				shares[i] = max(size, 1)
				budget -= size
				open--
				settled = true
			}
		}
		if settled {
			continue
		}
		for i := range shares {
			if shares[i] == 0 {
				shares[i] = equal
			}
		}
		break
	}
	return shares
}

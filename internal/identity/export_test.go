package identity

// CommonPasswords returns how many passwords are refused as common ones.
func CommonPasswords() int { return len(commonPasswords()) }

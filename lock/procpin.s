// This file is empty. Its presence lets procpin.go declare functions without
// a body.

package repo

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"syscall"

	"gocloud.dev/gcerrors"
)

// ErrorClass says what an error of a store means for a repository. Drivers tell it with [Driver].Classify.
type ErrorClass int

// The classes. Only ClassUnavailable is worth another try.
const (
	// ClassUnknown leaves the question to others; where nobody knows, the error is final.
	ClassUnknown ErrorClass = iota
	// ClassNotFound: there is no such object.
	ClassNotFound
	// ClassNoBucket: there is no such bucket or container.
	ClassNoBucket
	// ClassExists: a conditional create found the key taken.
	ClassExists
	// ClassAuthentication: the store does not accept who asks, because a key is unknown, wrong or expired.
	ClassAuthentication
	// ClassPermission: the store knows who asks, and refuses.
	ClassPermission
	// ClassNoSpace: the store is full, or a quota is used up.
	ClassNoSpace
	// ClassRange: a range begins behind the end of the object.
	ClassRange
	// ClassUnavailable: the store or the way to it failed for now: broken connections, time limits, throttling and
	// failures of the server.
	ClassUnavailable
)

// sentinels are what errors of a class match for callers. Those of keys are for this package only.
var sentinels = map[ErrorClass]error{
	ClassNotFound:       errKeyMissing,
	ClassNoBucket:       ErrNoBucket,
	ClassExists:         errKeyExists,
	ClassAuthentication: ErrAuthentication,
	ClassPermission:     ErrPermission,
	ClassNoSpace:        ErrNoSpace,
	ClassUnavailable:    ErrUnavailable,
}

// classify asks the drivers that are linked in, and then looks for what errors of any driver have in common.
func classify(err error) ErrorClass {
	if err == nil {
		return ClassUnknown
	}
	if errors.Is(err, errKeyExists) {
		return ClassExists // found out by a look at the key
	}
	for _, d := range drivers.all() {
		if d.Classify == nil {
			continue
		}
		if class := d.Classify(err); class != ClassUnknown {
			return class
		}
	}
	return classifyPortable(err)
}

func classifyPortable(err error) ErrorClass {
	if class := classifySystem(err); class != ClassUnknown {
		return class
	}
	var coded interface{ ErrorCode() string }
	if errors.As(err, &coded) {
		if class := ClassOfCode(coded.ErrorCode()); class != ClassUnknown {
			return class
		}
	}
	if class := ClassOfStatus(statusOf(err)); class != ClassUnknown {
		return class
	}
	switch gcerrors.Code(err) {
	case gcerrors.NotFound:
		return ClassNotFound
	case gcerrors.FailedPrecondition, gcerrors.AlreadyExists:
		return ClassExists
	case gcerrors.PermissionDenied:
		return ClassPermission
	case gcerrors.ResourceExhausted, gcerrors.DeadlineExceeded:
		return ClassUnavailable
	}
	return classifyConnection(err)
}

// statusOf returns the HTTP status that an error carries, 0 if none.
func statusOf(err error) int {
	var aws interface{ HTTPStatusCode() int }
	if errors.As(err, &aws) {
		return aws.HTTPStatusCode()
	}
	var google interface{ HTTPCode() int }
	if errors.As(err, &google) {
		return google.HTTPCode()
	}
	return 0
}

// classifySystem knows what operating systems say.
func classifySystem(err error) ErrorClass {
	switch {
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT), isDiskFull(err):
		return ClassNoSpace
	case errors.Is(err, syscall.EROFS):
		return ClassPermission
	}
	var path *fs.PathError
	if errors.As(err, &path) && errors.Is(path.Err, fs.ErrPermission) {
		return ClassPermission
	}
	return ClassUnknown
}

// classifyConnection knows how the way to a server fails. An error of a certificate is final: asking again would not
// help, and says nothing good of the other end.
func classifyConnection(err error) ErrorClass {
	var authority x509.UnknownAuthorityError
	var host x509.HostnameError
	var invalid x509.CertificateInvalidError
	if errors.As(err, &authority) || errors.As(err, &host) || errors.As(err, &invalid) {
		return ClassUnknown
	}
	for _, target := range []error{
		syscall.ECONNRESET, syscall.ECONNREFUSED, syscall.ECONNABORTED, syscall.EPIPE, syscall.ETIMEDOUT,
		syscall.EHOSTUNREACH, syscall.ENETUNREACH, syscall.ENETDOWN, io.ErrUnexpectedEOF, net.ErrClosed,
		http.ErrServerClosed, errAttemptTimeout, errStalled, errTruncated,
	} {
		if errors.Is(err, target) {
			return ClassUnavailable
		}
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return ClassUnknown
	}
	// Whatever these are, the request got no answer. The interface net.Error would not do: the errors of files have its
	// methods too.
	var operation *net.OpError
	var name *net.DNSError
	var send *url.Error
	if errors.As(err, &operation) || errors.As(err, &name) || errors.As(err, &send) {
		return ClassUnavailable
	}
	return ClassUnknown
}

// ClassOfStatus returns the class of an HTTP status, ClassUnknown for those that can mean anything. It is for drivers.
func ClassOfStatus(status int) ErrorClass {
	switch status {
	case http.StatusUnauthorized:
		return ClassAuthentication
	case http.StatusForbidden:
		return ClassPermission
	case http.StatusNotFound:
		return ClassNotFound
	case http.StatusPreconditionFailed:
		return ClassExists
	case http.StatusRequestedRangeNotSatisfiable:
		return ClassRange
	case http.StatusInsufficientStorage:
		return ClassNoSpace
	case http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests, http.StatusInternalServerError,
		http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return ClassUnavailable
	}
	return ClassUnknown
}

// codeClasses are the codes of errors that S3, and stores that are compatible with it, and Azure document.
var codeClasses = map[string]ErrorClass{
	"InvalidAccessKeyId":    ClassAuthentication,
	"SignatureDoesNotMatch": ClassAuthentication,
	"ExpiredToken":          ClassAuthentication,
	"InvalidToken":          ClassAuthentication,
	"TokenRefreshRequired":  ClassAuthentication,
	"AuthenticationFailed":  ClassAuthentication,
	"InvalidAuthentication": ClassAuthentication,
	"RequestTimeTooSkewed":  ClassAuthentication,
	"XAdminUserNotFound":    ClassAuthentication,

	"AccessDenied":                    ClassPermission,
	"AccountProblem":                  ClassPermission,
	"AllAccessDisabled":               ClassPermission,
	"AccountIsDisabled":               ClassPermission,
	"AuthorizationFailure":            ClassPermission,
	"AuthorizationPermissionMismatch": ClassPermission,
	"InsufficientAccountPermissions":  ClassPermission,

	"NoSuchKey":         ClassNotFound,
	"BlobNotFound":      ClassNotFound,
	"NoSuchBucket":      ClassNoBucket,
	"ContainerNotFound": ClassNoBucket,

	"PreconditionFailed":    ClassExists,
	"BlobAlreadyExists":     ClassExists,
	"ConditionNotMet":       ClassExists,
	"TargetConditionNotMet": ClassExists,

	"InvalidRange": ClassRange,

	"QuotaExceeded":       ClassNoSpace,
	"InsufficientStorage": ClassNoSpace,
	"XMinioStorageFull":   ClassNoSpace,

	"ConditionalRequestConflict": ClassUnavailable,
	"OperationAborted":           ClassUnavailable,
	"SlowDown":                   ClassUnavailable,
	"Throttling":                 ClassUnavailable,
	"ThrottlingException":        ClassUnavailable,
	"RequestLimitExceeded":       ClassUnavailable,
	"TooManyRequests":            ClassUnavailable,
	"InternalError":              ClassUnavailable,
	"InternalServerError":        ClassUnavailable,
	"ServiceUnavailable":         ClassUnavailable,
	"ServerBusy":                 ClassUnavailable,
	"OperationTimedOut":          ClassUnavailable,
	"RequestTimeout":             ClassUnavailable,
	"IncompleteBody":             ClassUnavailable,
	"BadDigest":                  ClassUnavailable,
	"Md5Mismatch":                ClassUnavailable,
	"ContainerBeingDeleted":      ClassUnavailable,
}

// ClassOfCode returns the class of an error code of the S3 or the Azure protocol, ClassUnknown for one that is not
// known. It is for drivers.
func ClassOfCode(code string) ErrorClass { return codeClasses[code] }

// objectError names what was done to which object, and keeps both the cause and what it means here, so that callers can
// ask for either.
func objectError(verb, key string, err error) error {
	class := classify(err)
	if class == ClassNotFound && (verb == "create" || verb == "list") {
		class = ClassNoBucket // neither needs an object that exists
	}
	if sentinel := sentinels[class]; sentinel != nil && !errors.Is(err, sentinel) {
		return fmt.Errorf("repo: %s %s: %w: %w", verb, key, sentinel, err)
	}
	return fmt.Errorf("repo: %s %s: %w", verb, key, err)
}

/**
 * LedgerErrors as gRPC statuses and back. Used by the gRPC server and channels only.
 *
 * The status code is for any gRPC client; `ledgermq-code` names the number of our own table, and `ledgermq-status-bin`
 * carries the whole `Status`, so that our callers get back exactly the error that was thrown.
 */
import { status as grpc, Metadata, type StatusObject } from '@grpc/grpc-js'
import { type ErrorCode, errorTable, LedgerError } from '../common/errors.ts'
import { decodeStatus, encodeStatus, fromWireStatus, toWireStatus } from './status.ts'

const codeKey = 'ledgermq-code'
const statusKey = 'ledgermq-status-bin'
const detailsMax = 500

const grpcCodes: Partial<Record<ErrorCode, grpc>> = {
  INVALID_REQUEST: grpc.INVALID_ARGUMENT,
  DEADLINE_EXCEEDED: grpc.DEADLINE_EXCEEDED,
  PERMISSION_DENIED: grpc.PERMISSION_DENIED,
  OVERLOADED: grpc.RESOURCE_EXHAUSTED,
  WRONG_CLUSTER: grpc.FAILED_PRECONDITION,
  UNIMPLEMENTED: grpc.UNIMPLEMENTED,
  UNAVAILABLE: grpc.UNAVAILABLE,
  SERVICE_NOT_AVAILABLE: grpc.UNAVAILABLE,
  UNAUTHENTICATED: grpc.UNAUTHENTICATED,
  SYSTEM_ERROR: grpc.INTERNAL,
  ABORTED: grpc.CANCELLED,
}

const ledgerCodes: Partial<Record<grpc, ErrorCode>> = {
  [grpc.CANCELLED]: 'UNAVAILABLE',
  [grpc.INVALID_ARGUMENT]: 'INVALID_REQUEST',
  [grpc.DEADLINE_EXCEEDED]: 'DEADLINE_EXCEEDED',
  [grpc.PERMISSION_DENIED]: 'PERMISSION_DENIED',
  [grpc.RESOURCE_EXHAUSTED]: 'OVERLOADED',
  [grpc.FAILED_PRECONDITION]: 'WRONG_CLUSTER',
  [grpc.UNIMPLEMENTED]: 'UNIMPLEMENTED',
  [grpc.UNAVAILABLE]: 'UNAVAILABLE',
  [grpc.UNAUTHENTICATED]: 'UNAUTHENTICATED',
}

/** The code of a judged request that has to break its stream has no gRPC code of its own: FAILED_PRECONDITION. */
export function toGrpcStatus(error: LedgerError): StatusObject {
  const metadata = new Metadata()
  metadata.set(codeKey, String(errorTable[error.code].number))
  metadata.set(statusKey, encodeStatus(toWireStatus(error)))
  return { code: grpcCodes[error.code] ?? grpc.FAILED_PRECONDITION, details: headerText(error.message), metadata }
}

/** The same as plain HTTP/2 headers, for streams that are refused before gRPC sees them. */
export function toTrailers(error: LedgerError): Record<string, string | number> {
  const { code, details } = toGrpcStatus(error)
  return { 'grpc-status': code, 'grpc-message': details, [codeKey]: String(errorTable[error.code].number) }
}

/** `address` goes into the message of errors that no server of ours has written. */
export function fromGrpcStatus(status: StatusObject, address: string): LedgerError {
  const ours = status.metadata.get(statusKey)[0]
  if (Buffer.isBuffer(ours)) {
    try {
      return fromWireStatus(decodeStatus(ours))
    } catch {
      // Broken trailers: what follows judges by the gRPC code alone.
    }
  }
  return new LedgerError(ledgerCodeOf(status), `${address}: ${plainDetails(status.details)}`)
}

/** Without what the library appends for addresses that had to be resolved by name. */
function plainDetails(details: string): string {
  return details
    .replace(/ Resolution note: $/, '')
    .replace('Last error: Error: ', '')
    .replace('Channel closed before call started', 'no connection in time')
}

function ledgerCodeOf(status: StatusObject): ErrorCode {
  // A reset stream is a broken connection, whatever code the library gives it.
  if (status.code === grpc.INTERNAL && status.details.startsWith('Received RST_STREAM')) return 'UNAVAILABLE'
  return ledgerCodes[status.code] ?? 'SYSTEM_ERROR'
}

/** The library puts details through encodeURI, which throws on half surrogates, and headers take no control codes. */
function headerText(message: string): string {
  return message.slice(0, detailsMax).replace(/[^\x20-\x7e]/g, '?')
}

/**
 * The batch: the bytes that a producer makes once and that then lie in the CommitLog of every replica for ever.
 *
 * Written by the SDK, checked by the broker, read by consumers. This is the door of the format; the byte table is in
 * `README.md` beside this file. Decoders never trust a length; what is malformed throws MESSAGE_ILLEGAL (13).
 */
export { checkBatch, longestBody, readBatchHeader, readRecords } from './batch-decoder.ts'
export { type BatchFields, encodeBatch, recordBytes } from './batch-encoder.ts'
export { tagHash } from './tag-hash.ts'

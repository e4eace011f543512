/**
 * The batch: the bytes that a producer makes once and that then lie in the CommitLog of every replica for ever.
 *
 * Written by the SDK, checked by the broker, read by consumers. The byte table is in `README.md` beside this file.
 * Decoders never trust a length; what is malformed throws a LedgerError MESSAGE_ILLEGAL (13).
 */
import type { BatchHeader, RecordFields } from './types.ts'

export interface BatchFields extends Omit<BatchHeader, 'version' | 'totalLength' | 'recordCount'> {
  readonly records: readonly RecordFields[]
}

/** Encodes once; the result is sent, stored and served unchanged. Throws MESSAGE_ILLEGAL beyond the limits. */
export declare function encodeBatch(fields: BatchFields): Buffer
/** Bytes the record will take in a batch, to fill batches without encoding twice. */
export declare function recordBytes(record: RecordFields): number
/** Header only; checks magic, version, lengths and limits but not the checksum. */
export declare function readBatchHeader(batch: Buffer): BatchHeader
/** Everything a broker must check before it proposes: header, checksum, critical extensions, every record head. */
export declare function checkBatch(batch: Buffer): BatchHeader
/** Records from `start` on; bodies are views of the batch unless it is compressed. */
export declare function readRecords(batch: Buffer, start?: number): readonly RecordFields[]
/** Java's String.hashCode, as RocketMQ stores it for a tag. */
export declare function tagHash(tag: string): number

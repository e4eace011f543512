/** The door of `store/`: everything else in this folder is internal. */
export { InvariantError, invariant, unreachable } from './assert.ts'
export { openCommitLog } from './commit-log.ts'
export type {
  CommitLogApi,
  CommitLogOptions,
  HardStateApi,
  LogGrain,
  LoggedConfiguration,
  LogHole,
  LogOrigin,
  LogRecovery,
  RottenTail,
  SavedHardState,
  SegmentInfo,
  StateBatch,
  StateImage,
  StateInstall,
  StateOperation,
  StateRow,
  StateStoreApi,
} from './contract.ts'
export type { Disk, DiskErrorCode, DiskFile, DiskSpace } from './disk.ts'
export { DiskError, diskErrorCode, isForLackOfSpace } from './disk-error.ts'
export type { StoreErrorCode } from './errors.ts'
export { StoreError } from './errors.ts'
export {
  ensureDirectory,
  type JsonValue,
  readRecordFile,
  writeRecordFile,
} from './folder.ts'
export { frameBody, frameLengthOf } from './frame.ts'
export { splitFrames } from './frame-split.ts'
export { openHardState } from './hard-state.ts'
export { inspectCommitLog } from './inspect.ts'
export type { KeyRange, KeyValue, KeyValueEngine, KeyValueOperation, KeyValueSnapshot } from './key-value.ts'
export { LevelKeyValueEngine } from './level-key-value.ts'
export {
  type DiskOperation,
  loseAllUnsynced,
  MemoryDisk,
  type MemoryDiskOptions,
  randomCrash,
} from './memory-disk.ts'
export type { CrashChoice } from './memory-file.ts'
export {
  type BatchCrashChoice,
  loseAllUnsyncedBatches,
  MemoryKeyValueEngine,
  type MemoryKeyValueOptions,
  randomBatchCrash,
} from './memory-key-value.ts'
export { NodeDisk } from './node-disk.ts'
export { SpaceReserve } from './space-reserve.ts'
export type { StateDirectory } from './state-files.ts'
export { type ImageIdentity, installStateStore } from './state-install.ts'
export { openImagesMax, openStateStore, type StateStoreOptions } from './state-store.ts'
export type { Frame, FrameHeader, FrameType, LogEntry, Position } from './types.ts'
export { frameTypes } from './types.ts'

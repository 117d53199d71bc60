/**
 * The one error that this client throws, built from `google.rpc.Status`.
 *
 * Every Assay error carries exactly one `ErrorInfo` (a stable `reason`, and the numbers involved as `details`), and
 * where they fit the field violations of a `BadRequest` and the delay of a `RetryInfo`. An error that the transport
 * made, not the server, has the reason "".
 */

import { type ServiceError, status } from "@grpc/grpc-js";
import { BadRequest, ErrorInfo, RetryInfo } from "./gen/google/rpc/error_details.js";
import { Status } from "./gen/google/rpc/status.js";

/** One field of a request that the server refused, and why. */
export interface FieldViolation {
  /** Path of the field, for example "pairs[3].chosen". */
  readonly field: string;
  readonly description: string;
}

/** Why a call, or one item of it, failed. */
export class AssayError extends Error {
  override readonly name = "AssayError";
  /** The gRPC status code. */
  readonly code: status;
  /** What went wrong, as a constant such as "EMPTY_RESPONSE"; "" where the server did not say. */
  readonly reason: string;
  /** The names and numbers involved, as the server gave them. */
  readonly details: Readonly<Record<string, string>>;
  /** The fields at fault, for a refused request. */
  readonly violations: readonly FieldViolation[];
  /** Seconds after which the server wants to be asked again; undefined where it did not say. */
  readonly retryAfterSeconds: number | undefined;

  constructor(code: status, message: string, parts: Partial<RichParts> = {}, options?: ErrorOptions) {
    super(`${status[code] ?? `code ${code}`}: ${message}`, options);
    this.code = code;
    this.reason = parts.reason ?? "";
    this.details = parts.details ?? {};
    this.violations = parts.violations ?? [];
    this.retryAfterSeconds = parts.retryAfterSeconds;
  }

  /** An item's own error, from its place in a response. */
  static fromStatus(rich: Status): AssayError {
    return new AssayError(rich.code, rich.message, richParts(rich));
  }

  /** A failed call's error; anything that is not a gRPC error is returned as it is. */
  static fromCall(error: unknown): unknown {
    if (error instanceof AssayError || !isServiceError(error)) return error;
    const rich = richStatus(error);
    return new AssayError(error.code, error.details, rich === undefined ? {} : richParts(rich), { cause: error });
  }

  /**
   * Whether the same work, sent again, may succeed: the server was unreachable or is loading, it named a delay, or the
   * transport broke under the call. grpc-js reports the last as UNAVAILABLE, or as a CANCELLED or INTERNAL of its own
   * making, by how the connection ended; one that the server itself decided on would carry a reason.
   */
  get transient(): boolean {
    switch (this.code) {
      case status.UNAVAILABLE:
        return true;
      case status.RESOURCE_EXHAUSTED:
        return this.retryAfterSeconds !== undefined;
      case status.CANCELLED:
        return this.reason === "";
      case status.INTERNAL:
        return this.reason === "" && this.message.includes("RST_STREAM");
      default:
        return false;
    }
  }
}

interface RichParts {
  readonly reason: string;
  readonly details: Readonly<Record<string, string>>;
  readonly violations: readonly FieldViolation[];
  readonly retryAfterSeconds: number | undefined;
}

/** Reads the details that this client knows; others, from a newer server, are passed over. */
function richParts(rich: Status): RichParts {
  let info: ErrorInfo | undefined;
  let violations: readonly FieldViolation[] = [];
  let retryAfterSeconds: number | undefined;
  for (const { typeUrl, value } of rich.details) {
    switch (typeUrl.slice(typeUrl.lastIndexOf("/") + 1)) {
      case "google.rpc.ErrorInfo":
        info = ErrorInfo.decode(value);
        break;
      case "google.rpc.BadRequest":
        violations = BadRequest.decode(value).fieldViolations.map(({ field, description }) => ({ field, description }));
        break;
      case "google.rpc.RetryInfo": {
        const delay = RetryInfo.decode(value).retryDelay;
        if (delay !== undefined) retryAfterSeconds = delay.seconds + delay.nanos / 1e9;
        break;
      }
    }
  }
  return { reason: info?.reason ?? "", details: info?.metadata ?? {}, violations, retryAfterSeconds };
}

/** The status in `grpc-status-details-bin`, or undefined where there is none that can be read. */
function richStatus(error: ServiceError): Status | undefined {
  const [packed] = error.metadata?.get("grpc-status-details-bin") ?? [];
  if (!Buffer.isBuffer(packed)) return undefined;
  try {
    return Status.decode(packed);
  } catch {
    return undefined; // A proxy's garbage must not hide the error that it came with.
  }
}

function isServiceError(error: unknown): error is ServiceError {
  return error instanceof Error && "code" in error && typeof error.code === "number" && "details" in error;
}

// The camera: frame by frame, the next one when the last one was answered.

const LONGEST_SIDE = 960;
const QUALITY = 0.85;

/** Why the camera does not run, in words. */
export class CameraError extends Error {}

const REASONS = {
  NotAllowedError: "The browser may not use the camera. Allow it for this page and try again.",
  NotFoundError: "There is no camera here.",
  NotReadableError: "The camera is in use by another program.",
};

/** The camera of this page; `each(picture, blob)` is awaited for every frame. */
export class Camera {
  #session = null; // {stream} of the run that counts; a new run has a new one

  get running() {
    return this.#session !== null;
  }

  /** Ask for the camera and run until `stop`. `ended(error)` is called once, error may be null. */
  async start(each, ended) {
    if (!navigator.mediaDevices?.getUserMedia) {
      throw new CameraError("The browser shows the camera to https pages and to localhost only.");
    }
    const session = { stream: null };
    this.#session = session;
    try {
      session.stream = await navigator.mediaDevices.getUserMedia({
        video: { width: { ideal: 1280 }, height: { ideal: 720 } },
        audio: false,
      });
    } catch (error) {
      this.#end(session);
      throw new CameraError(REASONS[error.name] ?? "The camera could not be started.");
    }
    session.stream.getVideoTracks()[0].addEventListener("ended", () => this.#end(session));
    this.#run(session, each).then(
      () => ended(null),
      (error) => ended(error),
    );
  }

  /** Stop and give the camera back. */
  stop() {
    if (this.#session) this.#end(this.#session);
  }

  #end(session) {
    session.stream?.getTracks().forEach((track) => track.stop());
    if (this.#session === session) this.#session = null;
  }

  async #run(session, each) {
    const runs = () => this.#session === session;
    const video = document.createElement("video");
    const frame = document.createElement("canvas");
    video.muted = true;
    video.playsInline = true;
    video.srcObject = session.stream;
    try {
      if (runs()) await video.play();
      while (runs()) {
        await nextFrame(video);
        if (!runs() || video.videoWidth === 0) continue;
        const scale = Math.min(1, LONGEST_SIDE / Math.max(video.videoWidth, video.videoHeight));
        frame.width = Math.round(video.videoWidth * scale);
        frame.height = Math.round(video.videoHeight * scale);
        frame.getContext("2d").drawImage(video, 0, 0, frame.width, frame.height);
        const blob = await new Promise((done) => frame.toBlob(done, "image/jpeg", QUALITY));
        if (runs()) await each(frame, blob);
      }
    } finally {
      video.srcObject = null;
      this.#end(session);
    }
  }
}

/** Wait for a frame to show; a page in the background has none, so it waits there. */
function nextFrame(video) {
  return new Promise((done) => {
    if (video.requestVideoFrameCallback) {
      const timer = setTimeout(done, 1000);
      video.requestVideoFrameCallback(() => {
        clearTimeout(timer);
        done();
      });
    } else requestAnimationFrame(() => done());
  });
}

# escape=`

FROM mcr.microsoft.com/windows/servercore:ltsc2022 AS installer
SHELL ["powershell", "-Command", "$ErrorActionPreference = 'Stop';"]
RUN Invoke-WebRequest -OutFile python.zip https://www.python.org/ftp/python.zip; `
    Expand-Archive python.zip -DestinationPath C:\python; `
    `
    Remove-Item -Force python.zip
FROM mcr.microsoft.com/windows/nanoserver:ltsc2022
COPY --from=installer ["/python", "C:\\Program Files\\python"]
USER ContainerUser
HEALTHCHECK CMD curl.exe http://localhost
CMD ["C:\\python\\python.exe"]
